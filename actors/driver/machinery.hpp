// What blocks, behind interfaces.
#pragma once

#include "drivers/guest/device_agent.hpp"
#include "drivers/guest/guest_tools.hpp"
#include "drivers/guest/xenstore.hpp"
#include "drivers/host/boot_links.hpp"
#include "drivers/host/memory_manager.hpp"
#include "drivers/host/xen_usage.hpp"
#include "drivers/hypervisor/container_host.hpp"
#include "drivers/hypervisor/hypervisor.hpp"
#include "drivers/hypervisor/toolstack.hpp"
#include "drivers/io/disk.hpp"
#include "drivers/io/lanes.hpp"
#include "messages/driver_jobs.hpp"

#include <memory>
#include <string>

namespace qubes::actors {

/// Shared with the lanes' threads.
struct machinery {
  std::shared_ptr<drivers::hypervisor> hypervisor;
  std::shared_ptr<drivers::guest_tools> tools;
  std::shared_ptr<drivers::device_agent> agent;
  std::shared_ptr<drivers::boot_links> boot_links;
  std::shared_ptr<drivers::toolstack> toolstack;             ///< null for none
  std::shared_ptr<drivers::xenstore> xenstore;               ///< null where the hypervisor has none
  std::shared_ptr<drivers::usage_meter> meter = nullptr;     ///< null: libvirt tells what is used
  std::shared_ptr<drivers::memory_manager> memory = nullptr; ///< null for none
  std::shared_ptr<drivers::disk> state;                      ///< the state directory
  std::shared_ptr<drivers::disk> run = nullptr;              ///< notes that end with the host's run
  std::shared_ptr<drivers::disk> config = nullptr;           ///< backup/: profiles
  std::shared_ptr<drivers::executor> lanes;
  std::string sysfs = "/sys";
  std::string input_trigger{};                               ///< program, "" for none
  std::string home{};                                        ///< of dom0's user, "" for none
  std::shared_ptr<drivers::hypervisor> containers = nullptr; ///< null for none
  std::shared_ptr<drivers::executor> container_lanes =
      nullptr; ///< for what waits for containers and their hypervisor
  std::shared_ptr<drivers::container_host> container_host = nullptr; ///< what they need of dom0

  /// The hypervisor that is there, null for none.
  drivers::hypervisor* find(model::hypervisor_id x) const {
    return x == model::hypervisor_id::containers ? containers.get() : hypervisor.get();
  }

  /// That of a domain, as the driver found out.
  drivers::hypervisor& of(const domain_identity& about) const {
    auto* found = find(about.at.value_or(model::hypervisor_id::host));
    return found ? *found : *hypervisor;
  }

  /// Where a job is done. Files and questions have the same lanes whatever they are about.
  drivers::executor& lanes_of(model::hypervisor_id x, drivers::lane where) const {
    using drivers::lane;
    auto own = where == lane::host || where == lane::build || where == lane::guest
               || where == lane::rescue;
    return own && x == model::hypervisor_id::containers && container_lanes ? *container_lanes
                                                                           : *lanes;
  }
};

} // namespace qubes::actors
