// The driver: has jobs done on lanes, and passes on what hypervisors, agents and guests tell.
#pragma once

#include "actors/driver/calls.hpp"
#include "actors/driver/connections.hpp"
#include "actors/driver/core.hpp"

#include <set>
#include <string>

namespace qubes::actors {

class driver_state : public driver_core {
public:
  static inline const char* name = "driver";

  explicit driver_state(driver_actor::pointer self) : driver_core(self) {}

  driver_actor::behavior_type make(world_ptr in, machinery with);

private:
  void listen();
  void agents_are(const std::set<std::string>& names);
  void look_at_all();
  template <class NewsOf>
  void tell_running(NewsOf news_of);
  template <class News>
  void route(const News& x);

  driver_connections connections_{*this, calls_};
  driver_calls calls_{*this, connections_};
};

driver_actor::behavior_type driver(driver_actor::stateful_pointer<driver_state> self, world_ptr in,
                                   machinery with);

} // namespace qubes::actors
