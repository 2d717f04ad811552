// What blocks, behind interfaces.
#pragma once

#include "drivers/boot_links.hpp"
#include "drivers/device_agent.hpp"
#include "drivers/disk.hpp"
#include "drivers/guest_tools.hpp"
#include "drivers/hypervisor.hpp"
#include "drivers/lanes.hpp"
#include "drivers/memory_manager.hpp"
#include "drivers/toolstack.hpp"
#include "drivers/xen_usage.hpp"
#include "drivers/xenstore.hpp"

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
  std::string input_trigger{}; ///< program, "" for none
  std::string home{};          ///< of dom0's user, "" for none
};

} // namespace qubes::actors
