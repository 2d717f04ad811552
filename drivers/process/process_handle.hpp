// A process, whatever becomes of its number.
#pragma once

#include "drivers/io/unique_fd.hpp"

#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

namespace qubes::drivers {

/// Readable once the process has ended; none, and errno, where there is no such process.
inline unique_fd handle_of(pid_t process) {
  return unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, process, 0))};
}

} // namespace qubes::drivers
