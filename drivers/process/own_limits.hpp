// What the daemon takes for itself alone. Its children run dom0's services as the user, and begin
// with what the service manager gave us.
#pragma once

#include "model/base/error.hpp"

#include <sys/resource.h>

#include <cstddef>

namespace qubes::drivers {

/// Many descriptors, and to be the last that the kernel kills for memory, as far as we may. Once,
/// before there are children.
void take_own_limits();

/// Whether the host gives us `count` threads at a time: with fewer the daemon does not begin, and
/// what its libraries start is not met by a refusal. Asked before there are others.
model::outcome<void> check_threads(unsigned count);

/// What we had before, for a child; null where we took nothing.
struct limits_before {
  const rlimit* descriptors = nullptr;
  const char* kill_order = nullptr;
  std::size_t kill_order_size = 0;
};

/// Asked before there is a child.
limits_before limits_to_give_back() noexcept;

/// By a child, before it becomes another program. Makes system calls only: it may share our memory.
void give_back(const limits_before& x) noexcept;

} // namespace qubes::drivers
