// What the daemon takes for itself alone. Its children run dom0's services as the user, and begin
// with what the service manager gave us.
#pragma once

#include "model/error.hpp"

namespace qubes::drivers {

/// Many descriptors, and to be the last whom the kernel kills for memory, as far as we may. Once,
/// before there are children.
void take_own_limits();

/// Whether the host gives us `count` threads at a time: with fewer the daemon does not begin, and
/// what its libraries start is not met by a refusal. Asked before there are others.
model::outcome<void> check_threads(unsigned count);

/// By a child, before it becomes another program. Makes system calls only: it may share our memory.
void give_back_limits() noexcept;

} // namespace qubes::drivers
