// The registry: which domains there are, their actors, and the host's own properties and labels.
#pragma once

#include "actors/common/planning.hpp"
#include "actors/common/restarts.hpp"
#include "actors/host/creations.hpp"
#include "actors/host/offers.hpp"
#include "actors/host/pools.hpp"

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace qubes::actors {

/// Owns the directory, which says what actors each domain has, and the changes of the host's record
/// that wait. A domain of the published system has its actors, unless its creation is not told yet
/// or they rest after deaths; none has two of a kind.
/// Needs: creations, offers, pools.
class registry_state : public host_core {
public:
  static inline const char* name = "registry";

  explicit registry_state(registry_actor::pointer self) : host_core(self) {}

  registry_actor::behavior_type make(world_ptr in);

  void change(planner what, const reply& to) override;
  /// Spawns actors of new domains, ends those of removed ones, publishes the directory. A domain
  /// that is being created waits until that is told: nothing may be heard of it before.
  snapshot align() override;
  std::vector<std::string> being_created_in(std::string_view pool) const override {
    return creations_.in_pool(pool);
  }
  bool is_leaving(const std::string& domain) const override { return leaving_.contains(domain); }

private:
  /// By the part that knows how, else by one of the functions below; those of sleep and backups are
  /// handed on.
  void obey(const order& x, const reply& to);
  template <class What>
  void hand_to_part(const What& what, const reply& to) {
    if constexpr (requires { carry_out(what, to); })
      carry_out(what, to);
    else
      hand_to(what, to, creations_, pools_, offers_);
  }
  void carry_out(const ask::preload& x, const reply& to);
  /// Of the host's own record.
  template <changes_host What>
  void carry_out(const What& x, const reply& to) {
    change([x](auto& v) { return plan_of(v, x); }, to);
  }
  void next_change();

  // -- actors -------------------------------------------------------------------------------------

  void follow_default_netvm(const model::change& what);
  void tell_all_to_follow();

  void tell_netvms(const model::system& former, const snapshot& now,
                   const std::vector<std::string>& changed);
  void align_boot(const std::function<void()>& then);
  std::set<std::string> names_with_autostart() const;
  void review_firewalls();
  /// The domain's record, but not before its creation is told.
  const model::domain* told_record(const std::string& name, const snapshot& now);
  bool is_aligned(const std::string& name, const snapshot& now, const directory& actors);
  void align_one(const std::string& name, const snapshot& now, directory& actors);
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

  creations creations_{*this};
  host_pools pools_{*this};
  volume_offers offers_{*this};
  std::deque<std::pair<planner, reply>> pending_changes_;
  bool changing_ = false;
  bool stopping_ = false;
  model::system_ptr aligned_;                  ///< what the directory was made from
  std::set<std::string, std::less<>> waiting_; ///< in there, and not yet in the directory
  bool untold_ = false; ///< actors made from now on are not told what the hypervisor has
  std::map<std::string, directory::entry, std::less<>> leaving_; ///< record gone, work not yet
  std::map<std::string, restarts> restarts_;                     ///< by part, e.g. "domain work"
};

registry_actor::behavior_type registry(registry_actor::stateful_pointer<registry_state> self,
                                       world_ptr in);

} // namespace qubes::actors
