// Stats: one look at the hypervisor per interval for all subscribers, none when there are none.
#pragma once

#include "actors/api/events.hpp"
#include "actors/common/world.hpp"

#include <map>
#include <string>
#include <vector>

namespace qubes::actors {

class stats_state {
public:
  static inline const char* name = "stats";

  explicit stats_state(stats_actor::pointer self) : self(self) {}

  stats_actor::behavior_type make(world_ptr in, frame_sink to);

private:
  void subscribe(connection_id who, const std::string& of);
  void look_later(std::chrono::milliseconds wait);
  void look();
  void look_at(model::hypervisor_id where);
  void tell(model::hypervisor_id where, const std::vector<model::usage>& seen);
  /// Ends the streams about domains that do not run.
  void dismiss_idle();

  stats_actor::pointer self;
  world_ptr world_;
  frame_sink to_;
  std::map<connection_id, std::string> subscribers_; ///< "" hears of all
  /// The last look at a hypervisor.
  struct sample {
    std::map<std::int32_t, model::usage> seen; ///< by xid
    std::int64_t at_us = 0;
    bool asking = false; ///< the next one is under way
  };
  std::map<model::hypervisor_id, sample> last_;
  std::uint64_t period_ = 0; ///< generation of the timer that is armed
};

stats_actor::behavior_type stats(stats_actor::stateful_pointer<stats_state> self, world_ptr in,
                                 frame_sink to);

} // namespace qubes::actors
