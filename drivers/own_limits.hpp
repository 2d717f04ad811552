// What the daemon takes for itself alone. Its children run dom0's services as the user, and begin
// with what the service manager gave us.
#pragma once

#include "model/error.hpp"

#include <sys/types.h>

namespace qubes::drivers {

/// Many descriptors, and to be the last whom the kernel kills for memory, as far as we may. Once,
/// before there are children.
void take_own_limits();

/// Whether the host gives us `count` threads at a time: with fewer the daemon does not begin, and
/// what its libraries start is not met by a refusal. Asked before there are others.
model::outcome<void> check_threads(unsigned count);

/// A child that was just started gets none of it.
void give_back_limits(pid_t child);

} // namespace qubes::drivers
