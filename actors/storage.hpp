// Storage: work on volumes and pools, in order per domain, on threads of its own.
#pragma once

#include "actors/world.hpp"
#include "drivers/disks.hpp"
#include "drivers/lanes.hpp"

#include <memory>

namespace qubes::actors {

class storage_state {
public:
  static inline const char* name = "storage";

  explicit storage_state(storage_actor::pointer self) : self(self) {}

  storage_actor::behavior_type make(std::shared_ptr<drivers::disks> with,
                                    std::shared_ptr<drivers::executor> lanes);

private:
  caf::result<disk_report> run(const disk_job& what);

  storage_actor::pointer self;
  std::shared_ptr<drivers::disks> disks_;
  std::shared_ptr<drivers::executor> lanes_;
};

storage_actor::behavior_type storage(storage_actor::stateful_pointer<storage_state> self,
                                     std::shared_ptr<drivers::disks> with,
                                     std::shared_ptr<drivers::executor> lanes);

} // namespace qubes::actors
