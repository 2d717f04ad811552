// Sleep: all domains go to sleep before the host does and wake after it (spec/lifecycle.md §4).
#pragma once

#include "actors/common/reply.hpp"
#include "actors/common/world.hpp"

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace qubes::actors {

class sleep_state {
public:
  static inline const char* name = "sleep";

  explicit sleep_state(sleep_actor::pointer self) : self(self) {}

  sleep_actor::behavior_type make(world_ptr in);

private:
  using names = std::vector<std::string>;
  /// Told once every domain has answered: which ones could not, and why.
  using report_of_all = std::function<void(names failures)>;

  void obey(const order& x, const reply& to);
  void next();
  void carry_out(const ask::suspend_host& x, const reply& to);
  void carry_out(const ask::resume_host& x, const reply& to);
  /// Whatever became of this order, the next gets its turn.
  void finish(const reply& to, model::outcome<std::string> how);

  names those(const std::function<bool(const model::domain&, model::power)>& which) const;
  names with_agent(names some) const;

  /// Runs the service in all these domains at once; what fails is in the log only.
  void run_services(const std::string& service, const names& in, const std::function<void()>& then);
  void ask_at_once(const order& what, const names& whom, report_of_all then);
  void ask(order what, const std::string& whom);
  void answered(const answer& x);
  void overdue(std::uint64_t ticket);
  void done();

  sleep_actor::pointer self;
  world_ptr world_;
  std::deque<std::function<void()>> waiting_; ///< for the end of what is under way
  bool busy_ = false;
  std::uint64_t tickets_ = 0;
  std::map<std::uint64_t, std::string> open_; ///< ticket -> domain
  names failures_;
  report_of_all then_;
};

sleep_actor::behavior_type host_sleep(sleep_actor::stateful_pointer<sleep_state> self,
                                      world_ptr in);

} // namespace qubes::actors
