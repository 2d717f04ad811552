// Devices domains offer to each other, and how they are written (spec/devices.md).
#pragma once

#include "model/system/device_class.hpp"
#include "model/system/view.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::model {

using device_options = std::vector<std::pair<std::string, std::string>>;

/// Something a domain offers; one that is not there has only its port.
struct device {
  std::string backend;
  std::string port;
  std::string identity = "0000:0000::?******";
  std::string vendor, product, name, serial, manufacturer; ///< "" when unknown
  std::string interfaces = "?******";                      ///< seven characters each
  std::string parent_port, parent_class;
  std::string attachment; ///< domain that has it, "" for none
  device_options data;

  bool operator==(const device&) const = default;
};

/// Where the hypervisor finds a PCI device, `SSSS:BB:DD.F`; all others know it by its port. "" for
/// one that is not there.
std::string pci_address_of(const device& x);

/// Whether what is at a port is still what was there. Two devices without an identity may differ in
/// their serial number, as far as both tell one.
inline bool is_same(const device& one, const device& other) {
  auto apart = !one.serial.empty() && !other.serial.empty() && one.serial != other.serial;
  return one.port == other.port && one.identity == other.identity && !apart;
}

/// What a client wants to attach, or has.
struct attachment {
  std::string kind;
  std::string backend;
  std::string port;
  std::string identity;
  device_options options;
  std::string address{}; ///< of a PCI device on the host, `SSSS:BB:DD.F`

  bool operator==(const attachment&) const = default;
};

/// A device is told from others by its class, its backend and its port there.
inline bool is_at(const attachment& x, std::string_view kind, std::string_view backend,
                  std::string_view port) {
  return x.kind == kind && x.backend == backend && x.port == port;
}

/// `BACKEND+PORT[:IDENTITY]`, with `_` for any (spec/devices.md §4). An address of a PCI device
/// becomes its port.
outcome<assignment> parse_device(const view& v, std::string_view kind, std::string_view argument);

/// Domains of other hosts do not.
outcome<void> takes_devices(const domain& x);

/// `BACKEND+PORT`, or nothing: what a listing is narrowed to.
outcome<void> check_port(std::string_view argument);

/// What a client says of a device named by its argument.
struct wanted_device {
  assignment what;
  bool manual = true; ///< no mode, or the mode of what is attached by hand
};
outcome<wanted_device> parse_assignment(const view& v, std::string_view kind,
                                        std::string_view argument, std::string_view payload);

/// `BACKEND:PORT:IDENTITY`, as events show it.
std::string event_text(const assignment& x);
/// A Python dictionary, as events show it.
std::string event_text(const device_options& x);

/// Lines of Available, Assigned and Attached.
std::string print_available(std::string_view kind, const device& x);
std::string print_assigned(std::string_view kind, const assignment& x);
/// `by`: the assignment by which the device was attached, null when by hand.
std::string print_attached(const attachment& x, std::string_view frontend, const assignment* by);

/// What may be said of a disk when it is attached: read-only, frontend-dev, devtype. Other options
/// are none of a disk.
outcome<void> check_disk_option(std::string_view key, std::string_view value);

/// For people: class, vendor and product, as far as they are known.
std::string describe(std::string_view kind, const device& x);

/// Whether the agent of a backend brings the script qubes-block.
bool brings_block_script(const view& v, const domain& backend);

/// Whether a device has an interface that a domain denies; the first one of them.
std::optional<std::string> denied_interface(const device& x, std::string_view denied);

std::string list_denied(const view& v, const domain& owner);

} // namespace qubes::model
