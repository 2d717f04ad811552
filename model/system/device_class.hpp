// model/system: what there is: domains, the host they are on, and what is known of both right now.
//
// Classes of devices: where they are listed, and by what a domain gets one.
#pragma once

#include "model/base/package.hpp"
#include "model/system/host.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string_view>

namespace qubes::model {

enum class carrier : std::uint8_t {
  hypervisor, ///< attached through the domain's XML
  services,   ///< programs in both domains pass the device on, over qrexec
  sound,      ///< the domain's audiovm lets the sound in
};

struct device_kind {
  std::string_view name;
  std::string_view title; ///< in questions to the user
  std::string_view help;
  carrier by = carrier::hypervisor;
  std::string_view listing{};  ///< in the QubesDB of domains that offer some; "" for nowhere
  std::optional<package> of{}; ///< without which the host has none; nothing: always there
  std::string_view port{};     ///< of the only one that there is; "" where there may be others
};

/// Where a domain lists what it offers, in its QubesDB.
inline constexpr auto block_devices_path = std::string_view{"/qubes-block-devices"};
inline constexpr auto usb_devices_path = std::string_view{"/qubes-usb-devices"};

/// Sorted by name.
inline constexpr device_kind device_kinds[]{
    {"block", "Block_Storage", "disks and partitions that domains offer", carrier::hypervisor,
     block_devices_path},
    {"mic", "Microphone", "the microphone", carrier::sound, {}, package::gui_daemon, "mic"},
    {"pci", "PCI_Device", "PCI devices of this host"},
    {"usb", "USB_Device", "USB devices that domains offer", carrier::services, usb_devices_path,
     package::usb_proxy},
    {"webcam", "Camera", "cameras that domains offer", carrier::services, "/webcam-devices",
     package::video_companion},
};

/// Null for a class that nothing here knows.
inline const device_kind* find_device_kind(std::string_view name) noexcept {
  auto it = std::ranges::find(device_kinds, name, &device_kind::name);
  return it == std::end(device_kinds) ? nullptr : it;
}

inline bool is_there(const device_kind& x, const host& machine) {
  return !x.of || machine.packages.contains(*x.of);
}

} // namespace qubes::model
