// What guests move to and from disks that this host serves, as its kernel's back ends count it.
#pragma once

#include "model/system/usage.hpp"

#include <cstdint>
#include <map>
#include <string>

namespace qubes::drivers {

/// By xid, all disks of a guest together, since each was attached. Disks that other domains serve
/// are not known here.
std::map<std::int32_t, model::disk_usage> count_disk_usage(const std::string& sysfs);

} // namespace qubes::drivers
