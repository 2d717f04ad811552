// Packages of dom0 that extend the stock daemon. Their presence on the host switches the extensions
// on that do the same here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace qubes::model {

enum class package : std::uint8_t {
  appmenus,
  whonix,
  kicksecure,
  usb_proxy,
  gui_daemon,
  video_companion
};

struct package_row {
  package id;
  std::string_view name;   ///< as dom0's package manager knows it
  std::string_view module; ///< of Python, by which it is recognized
};

/// In the order of the enumeration.
inline constexpr std::array package_rows{
    package_row{package::appmenus, "qubes-desktop-linux-common", "qubesappmenusext"},
    package_row{package::whonix, "qubes-core-admin-addon-whonix", "qubeswhonix"},
    package_row{package::kicksecure, "qubes-core-admin-addon-kicksecure", "qubeskicksecure"},
    package_row{package::usb_proxy, "qubes-usb-proxy-dom0", "qubesusbproxy"},
    package_row{package::gui_daemon, "qubes-gui-daemon", "qubesguidaemon"},
    package_row{package::video_companion, "qubes-video-companion-dom0", "qvc"},
};

constexpr const package_row& row(package x) {
  return package_rows[static_cast<std::size_t>(x)];
}

} // namespace qubes::model
