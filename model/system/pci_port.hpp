// Two ways to name a PCI device: by its address, as files before release 4.3 do, and by its place
// (spec/devices.md §8). Addresses change with the numbering of buses, places do not.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace qubes::model {

/// The buses of this host, as sysfs tells.
struct pci_layout {
  std::set<std::string, std::less<>> root_buses;         ///< `SSSS:BB`
  std::map<std::string, std::string, std::less<>> ports; ///< address `SSSS:BB:DD.F` -> port

  bool operator==(const pci_layout&) const = default;
};

/// `[SSSS:]BB:DD.F`, with `_` for any colon, and as libvirt names it, `pci_SSSS_BB_DD_F`, as
/// `SSSS:BB:DD.F`; nothing for anything else.
std::optional<std::string> pci_address(std::string_view text);

/// The port of a PCI device that is named either way. What names no device of this host stays as it
/// is.
std::string pci_port(const pci_layout& here, std::string_view text);

/// An address, or a place: `[SSSS_]BB_DD.F`, and `-BB_DD.F` for each bridge on the way.
bool is_pci_port(std::string_view text);

/// `VENDOR:PRODUCT:SERIAL:INTERFACES`, as devices tell them (spec/devices.md §1).
bool is_pci_identity(std::string_view text);

/// The address that a device's name begins with, up to its end or a ':'; "" for none.
std::string_view leading_pci_address(std::string_view text);

/// Whether a port is an address still: where on this host it is is not known.
bool is_unplaced(const pci_layout& here, std::string_view port);

} // namespace qubes::model
