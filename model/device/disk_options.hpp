// What may be said of a disk when it is attached to a running domain, and the name that the guest
// gets it by (spec/devices.md §7).
#pragma once

#include "model/device/device.hpp"

#include <string_view>
#include <vector>

namespace qubes::model {

/// "" where it is not among them.
std::string_view option_of(const device_options& all, std::string_view key);

/// What a client says of a disk, completed: the front-end name is free, and a disk that can only be
/// read is read-only. `attached` are those that the domain has or is about to have.
outcome<device_options> complete_disk_options(const device& disk, const device_options& given,
                                              const view& v, const domain& owner,
                                              const std::vector<attachment>& attached);

} // namespace qubes::model
