// The disposables: keeps some of them ready, started and paused, for every template that wants it,
// and hands them out (spec/vm-classes.md §7). The only writer of the lists of ready ones.
#pragma once

#include "actors/common/reply.hpp"
#include "actors/common/world.hpp"
#include "model/change/plan.hpp"
#include "model/change/preload.hpp"

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace qubes::actors {

class disposables_state {
public:
  static inline const char* name = "disposables";

  explicit disposables_state(disposables_actor::pointer self) : self(self) {}

  disposables_actor::behavior_type make(world_ptr in);

private:
  using planner = std::function<model::plan(const model::view&)>;
  using then_do = std::function<void(bool)>; ///< whether it succeeded

  /// A disposable that was made before a client asked for it.
  struct one {
    std::string base;
    std::string uuid; ///< the name may be another's later
    model::preload_stage at;
    std::chrono::milliseconds next_look; ///< while it is dying
  };

  // -- owners -------------------------------------------------------------------------------------

  bool is(const std::string& who, model::preload_stage x) const;
  bool become(const std::string& who, model::preload_stage x);
  void know(const model::domain& x, const std::string& base, model::preload_stage at);
  std::size_t count(const std::string& base) const;

  // -- the pool -----------------------------------------------------------------------------------

  void wake_up();
  void fill_now(const std::string& base);
  void review(const std::string& base, double delay);
  void fill_later(const std::string& base, const std::string& reason, double delay);
  bool trim(const std::string& base);
  void fill(const std::string& base);
  void try_again(const std::string& base);
  void make_room_for(const std::string& base, std::size_t want);
  void drop_all(const std::string& base, double delay);

  // -- one disposable -----------------------------------------------------------------------------

  void make_one(const std::string& base);
  void began(const std::string& base, const std::string& who);
  void await_ready(const std::string& base, const std::string& who,
                   std::vector<std::string> services);
  void shrink(const std::string& base, const std::string& who);
  void hold(const std::string& base, const std::string& who);
  void given_up(const std::string& base, const std::string& who, const std::string& why);
  void discard(const std::string& base, const std::vector<std::string>& names);
  void take_off(const std::string& base, const std::vector<std::string>& going);
  void take_off_apart(const std::string& base, const std::vector<std::string>& going);
  void delist(const std::string& base, const std::vector<std::string>& names, then_do then);
  void let_all_go(const std::vector<std::string>& going);
  void let_go(const std::string& who);
  void forget(const std::string& who);

  void take(const take_disposable& wanted, const reply& to);
  void used(const std::string& who);
  void fill_gap(const std::string& base);

  // -- means --------------------------------------------------------------------------------------

  /// Changes are made one after the other: each plan sees the one before.
  void commit(planner what, then_do then);
  void next_commit();
  using answered = std::function<void(model::outcome<std::string>)>;
  void ask(const std::string& whom, order what, answered then);
  void tell(const std::string& base, std::string event,
            std::vector<std::pair<std::string, std::string>> args);

  disposables_actor::pointer self;
  world_ptr world_;
  std::deque<std::pair<planner, then_do>> commits_;
  bool committing_ = false;
  std::map<std::string, one> all_;                ///< by name, until they are given or gone
  std::map<std::string, std::size_t> being_made_; ///< template -> how many have no name yet
  struct retry {
    std::chrono::milliseconds pause{0};
    bool armed = false;
  };
  std::map<std::string, retry> retries_;    ///< by template
  std::map<std::uint64_t, answered> asked_; ///< by ticket
  std::uint64_t next_ticket_ = 1;
};

disposables_actor::behavior_type
disposables(disposables_actor::stateful_pointer<disposables_state> self, world_ptr in);

} // namespace qubes::actors
