// Packages of dom0 that extend the stock daemon. Their presence on the host switches the extensions
// on that do the same here.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace qubes::model {

enum class package : std::uint8_t { appmenus, whonix, kicksecure };

struct package_row {
  package id;
  std::string_view name;   ///< as dom0's package manager knows it
  std::string_view module; ///< of Python, by which it is recognized
};

inline constexpr std::array package_rows{
    package_row{package::appmenus, "qubes-desktop-linux-common", "qubesappmenusext"},
    package_row{package::whonix, "qubes-core-admin-addon-whonix", "qubeswhonix"},
    package_row{package::kicksecure, "qubes-core-admin-addon-kicksecure", "qubeskicksecure"},
};

} // namespace qubes::model
