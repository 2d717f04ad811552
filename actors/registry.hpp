// The registry: which domains there are, their actors, and the host's own properties and labels.
#pragma once

#include "actors/reply.hpp"
#include "actors/world.hpp"
#include "model/plan.hpp"

#include <deque>
#include <functional>
#include <map>
#include <string>

namespace qubes::actors {

class registry_state {
public:
  static inline const char* name = "registry";

  explicit registry_state(registry_actor::pointer self) : self(self) {}

  registry_actor::behavior_type make(world_ptr in);

private:
  using planner = std::function<model::plan(const model::view&)>;

  void obey(const order& x, const reply& to);
  void change(planner what, const reply& to);
  void next_wish();

  void follow_default_netvm(const model::change& what);

  static bool same_population(const model::system& a, const model::system& b);
  void align(); ///< spawns who is new, ends who is gone, publishes the directory
  void lost(const caf::down_msg& x);
  void tell_truth(const std::string& name);
  void end_all();

  registry_actor::pointer self;
  world_ptr world_;
  std::deque<std::pair<planner, reply>> wishes_;
  bool changing_ = false;
  bool stopping_ = false;
  model::system_ptr aligned_;              ///< what the directory was made from
  std::map<std::string, unsigned> deaths_; ///< by domain; a budget against dying for ever
};

registry_actor::behavior_type registry(registry_actor::stateful_pointer<registry_state> self,
                                       world_ptr in);

} // namespace qubes::actors
