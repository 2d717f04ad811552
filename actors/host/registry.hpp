// The registry: which domains there are, their actors, and the host's own properties and labels.
#pragma once

#include "actors/common/planning.hpp"
#include "actors/common/reply.hpp"
#include "actors/common/restarts.hpp"
#include "actors/common/world.hpp"
#include "model/change/creation.hpp"
#include "model/change/plan.hpp"

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace qubes::actors {

class registry_state {
public:
  static inline const char* name = "registry";

  explicit registry_state(registry_actor::pointer self) : self(self) {}

  registry_actor::behavior_type make(world_ptr in);

private:
  using planner = std::function<model::plan(const model::view&)>;

  /// Each is a `carry_out`; those of sleep and backups are handed on.
  void obey(const order& x, const reply& to);
  void carry_out(const ask::preload& x, const reply& to);
  /// Of the host's own record.
  template <changes_host What>
  void carry_out(const What& x, const reply& to) {
    change([x](auto& v) { return plan_of(v, x); }, to);
  }
  void change(planner what, const reply& to);
  void next_change();

  // -- new domains (creation.cpp) -----------------------------------------------------------------

  model::outcome<model::identity> pick_identity(const model::system& all,
                                                const model::creation& request);
  bool is_free(const model::system& all, const model::creation& request, std::int64_t dispid);
  static bool has_ready(const model::system& all, const std::string& base);
  void hand_out(const ask::create& x, const reply& to);
  void carry_out(const ask::create& x, const reply& to);
  /// Has its disks, and wants to be a fact.
  struct pending_creation {
    model::plan plan;
    disk_job::domain_target disks;
    std::string reply_text;
    reply to;
  };
  void fill_private_volume(const pending_creation& x);
  void present(const pending_creation& x);
  void arrived(); ///< or gave up
  void lose_patience();
  void commit_creations();
  void commit_creation(const pending_creation& x);
  void announce_created();
  void give_up(const disk_job::domain_target& disks, const model::error& reason, const reply& to);

  // -- pools, and volumes on offer (pools.cpp) ---------------------------------------------------

  void carry_out(const ask::add_pool& x, const reply& to);
  void carry_out(const ask::remove_pool& x, const reply& to);
  void carry_out(const ask::look_at_pool& x, const reply& to);
  void carry_out(const ask::tell_pool_usage& x, const reply& to);
  void carry_out(const ask::list_pool& x, const reply& to);
  void carry_out(const ask::offer_volume& x, const reply& to);
  /// Once the token is known, the domain answers.
  void carry_out(const ask::clone_volume& x, const reply& to);

  using print_facts = std::function<std::string(const model::pool&, const model::pool_facts&)>;
  void look_at(const std::string& pool, const reply& to, const print_facts& print);

  // -- actors -------------------------------------------------------------------------------------

  void follow_default_netvm(const model::change& what);
  void tell_all_to_follow();

  /// Spawns who is new, ends who is gone, publishes the directory. Who is being born waits until
  /// that is told: nothing may be heard of a domain before its creation.
  void align();
  void tell_netvms(const model::system& former, const snapshot& now,
                   const std::vector<std::string>& changed);
  void align_boot(const std::function<void()>& then);
  void review_firewalls();
  /// Its record, but not before its creation is told.
  const model::domain* born(const std::string& name, const snapshot& now);
  bool is_aligned(const std::string& name, const snapshot& now, const directory& actors);
  void align_one(const std::string& name, const snapshot& now, directory& actors);
  void note_released(const model::domain& gone);
  void forget(const model::domain& gone);
  void dismiss(const directory::entry& who);
  void end_removal(const directory::entry& who);
  void lost(const caf::down_msg& x);
  void begin_again(const directory::entry& without, const std::string& part,
                   const caf::error& reason);
  bool may_begin(const std::string& part) const;
  domain_actor spawn_domain(const std::string& name, const std::string& uuid);
  netvm_actor spawn_netvm(const std::string& name);

  /// Orders about a guest whose domain has no actor for a while.
  void rescue(const std::string& who, const order& x, const reply& to);
  void end_all();

  /// On disk, and yet to be told.
  struct created_domain {
    std::string name;
    std::vector<model::event> news;
    std::string text; ///< of the reply
    reply to;
  };

  registry_actor::pointer self;
  world_ptr world_;
  std::deque<std::pair<planner, reply>> pending_changes_;
  bool changing_ = false;
  bool stopping_ = false;
  model::system_ptr aligned_;                  ///< what the directory was made from
  std::set<std::string, std::less<>> waiting_; ///< in there, and not yet in the directory
  std::map<std::string, model::identity, std::less<>> creations_; ///< creations under way, by name
  std::size_t on_their_way_ = 0;                                  ///< creations without their disks
  std::vector<pending_creation> pending_creations_;
  std::int64_t patient_since_us_ = 0; ///< of the first of them
  std::vector<created_domain> created_;
  std::set<std::string, std::less<>> being_announced_; ///< those of them that get their actors now
  bool untold_ = false; ///< nobody tells those who get their actors now what the hypervisor has
  std::map<std::string, volume_name, std::less<>> offers_; ///< by token; each is good once
  std::deque<std::string> offered_;                        ///< their tokens, as they came
  std::map<std::int64_t, std::int64_t> released_; ///< dispid -> when its domain went, microseconds
  std::map<std::string, directory::entry, std::less<>> leaving_; ///< record gone, work not yet
  std::vector<std::pair<ask::create, reply>> postponed_;         ///< they wait for a name
  std::map<std::string, restarts> restarts_;                     ///< by part, e.g. "domain work"
};

registry_actor::behavior_type registry(registry_actor::stateful_pointer<registry_state> self,
                                       world_ptr in);

} // namespace qubes::actors
