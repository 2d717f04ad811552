// Storage: work on volumes and pools, in order per volume, on threads of its own.
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
  struct round;
  using round_ptr = std::shared_ptr<round>;

  caf::result<disk_report> run(const disk_job& what);
  void begin(const round_ptr& x);
  void do_each(const round_ptr& x);
  void done_with_each(const round_ptr& x);
  void finish(const round_ptr& x);

  /// Runs `work` on a storage thread, in order with what has the same key, then `then` here.
  template <class Work, class Then>
  void post(std::string key, Work work, Then then);

  storage_actor::pointer self;
  std::shared_ptr<drivers::disks> disks_;
  std::shared_ptr<drivers::executor> lanes_;
};

storage_actor::behavior_type storage(storage_actor::stateful_pointer<storage_state> self,
                                     std::shared_ptr<drivers::disks> with,
                                     std::shared_ptr<drivers::executor> lanes);

} // namespace qubes::actors
