// What domains say of the devices they offer, in their QubesDB (spec/devices.md §7, and the
// packages qubes-usb-proxy-dom0 and qubes-video-companion-dom0). Damaged entries are left out.
#pragma once

#include "model/device/device.hpp"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::model {

/// Paths and texts of a QubesDB.
using listing = std::vector<std::pair<std::string, std::string>>;

/// Devices of a class, sorted by port. `usb`: the backend's, of which some disks and cameras are
/// parts. `names`: of USB devices, null for none.
std::vector<device> listed_devices(std::string_view kind, std::string_view backend,
                                   const listing& entries, const std::vector<device>& usb = {},
                                   const usb_names* names = nullptr);

/// Whether some devices of this kind are parts of USB devices.
bool has_usb_parts(std::string_view kind, const listing& entries);

/// `WIDTHxHEIGHTxRATE`.
bool is_camera_format(std::string_view text);

/// The only microphone there is; the audiovm of any domain may let it in.
device microphone();

} // namespace qubes::model
