// What the model needs to know of the machine; gathered by drivers, read by default rules.
#pragma once

#include "model/base/hypervisor_kind.hpp"
#include "model/base/package.hpp"
#include "model/system/pci_port.hpp"
#include "model/system/system.hpp"
#include "model/system/usb_names.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace qubes::model {

/// A directory below vm-kernels (spec/properties.md rules K1, KO).
struct kernel {
  std::string name;
  bool vmlinuz = false;
  bool initramfs = false;
  bool modules = false;                           ///< has modules.img
  bool memory_hotplug = false;                    ///< has memory-hotplug-supported
  std::optional<std::string> default_options;     ///< default-kernelopts-nopci.txt, stripped
  std::optional<std::string> default_options_pci; ///< default-kernelopts-pci.txt, stripped
  std::optional<std::string> common_options;      ///< default-kernelopts-common.txt, stripped

  bool operator==(const kernel&) const = default;
};

/// By the id of its configuration, the pool that does the work of a callback pool
/// (spec/storage.md §9).
using callback_pools = std::map<std::string, pool, std::less<>>;

struct host {
  hypervisor_kind kind = hypervisor_kind::xen; ///< of its own hypervisor
  std::optional<hypervisor_kind> containers{}; ///< ... of the one for containers, where one is
                                               ///< configured
  bool kvm = false;             ///< guests are accelerated, where the hypervisor can do without
  std::uint64_t memory_kib = 0; ///< all memory of the machine
  std::uint64_t dom0_memory_mib = 4096;
  unsigned cpus = 1;
  unsigned cpu_family = 0;
  unsigned cpu_model = 0;
  std::string timezone; ///< "Europe/Warsaw", "" when unknown
  std::string state_directory = "/var/lib/qubes";
  std::vector<kernel> kernels; ///< sorted by name
  callback_pools callbacks;
  pci_layout pci;
  std::set<package> packages;           ///< that are there
  bool dom0_passes_usb = false;         ///< has the programs that pass its own USB devices on
  std::shared_ptr<const usb_names> usb; ///< null where nothing passes USB devices on

  const kernel* find_kernel(std::string_view name) const noexcept {
    for (auto& x : kernels)
      if (x.name == name)
        return &x;
    return nullptr;
  }

  bool operator==(const host&) const = default;
};

} // namespace qubes::model
