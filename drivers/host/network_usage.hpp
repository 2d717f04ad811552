// What goes over interfaces of guests that end on this host, as its kernel counts it.
#pragma once

#include "model/system/usage.hpp"

#include <cstdint>
#include <map>
#include <string>

namespace qubes::drivers {

/// By xid, all of a guest's interfaces together, since each was attached. Of interfaces that other
/// domains serve this host knows nothing; a guest that has only such ones is not there.
std::map<std::int32_t, model::network_usage> count_network_usage(const std::string& sysfs);

} // namespace qubes::drivers
