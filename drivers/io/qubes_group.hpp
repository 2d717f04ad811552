// The group `qubes`, whose members may use the daemon's files and sockets.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace qubes::drivers {

/// Nothing when the machine has no such group.
std::optional<gid_t> qubes_gid();

/// The first member of the group, "" when there is none; programs of domains run as this user.
std::string first_qubes_user();

/// Where that user's files are, "" when there is none.
std::string first_qubes_home();

} // namespace qubes::drivers
