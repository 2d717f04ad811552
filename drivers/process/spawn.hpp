// Starts a program without a shell, apart from our signals, descriptors and service manager.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace qubes::drivers {

/// Descriptors of ours that the program gets; all others are closed in it.
struct plugs {
  int output;
  int errors;
  int input = -1;       ///< /dev/null
  int third = -1;       ///< as its descriptor 3, if any
  bool leashed = false; ///< told to end (SIGTERM) when the thread that began it is gone
};

/// A process of its own group.
struct child {
  pid_t pid = -1;
  unique_fd handle{}; ///< readable once it ended
};

/// `extra` are NAME=VALUE, beside our own environment without NOTIFY_SOCKET and the like.
model::outcome<child> spawn(const std::vector<std::string>& command,
                            const std::vector<std::string>& extra, const plugs& with);

/// Waits for the end; exit code, 128 + signal when killed, nothing when that is not known.
std::optional<int> reap(const child& x);

/// Kills a child with all processes that it started. One that hangs in the kernel (a dead disk)
/// even then is left behind after two seconds.
void kill_and_reap(const child& x);

} // namespace qubes::drivers
