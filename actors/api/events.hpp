// Events: tells subscribers what happens, in order.
#pragma once

#include "actors/common/world.hpp"

#include <functional>
#include <map>
#include <set>
#include <string>

namespace qubes::actors {

/// Where frames of a connection go; the server's side bounds each queue and disconnects the slow.
using frame_sink = std::function<void(connection_id, std::string frame, bool last)>;

class events_state {
public:
  static inline const char* name = "events";

  explicit events_state(events_actor::pointer self) : self(self) {}

  events_actor::behavior_type make(world_ptr in, frame_sink to);

private:
  void pass_on(const events& news);
  bool is_of_the_dead(const model::event& x);

  events_actor::pointer self;
  world_ptr world_;
  frame_sink to_;
  std::map<connection_id, model::audience> subscribers_;
  std::set<std::string> dead_; ///< names that were told to be removed, and not to be given again
};

events_actor::behavior_type hub(events_actor::stateful_pointer<events_state> self, world_ptr in,
                                frame_sink to);

} // namespace qubes::actors
