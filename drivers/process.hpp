// Runs a program to its end, bounded in time and output.
#pragma once

#include "model/error.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace qubes::drivers {

struct process_result {
  int status = 0;     ///< exit code; 128 + signal when killed
  std::string output; ///< standard output and error, cut at 64 KiB
};

/// Starts without a shell, standard input from /dev/null, all other descriptors closed,
/// NOTIFY_SOCKET unset. Killed at `limit` (errc::timed_out). `extra` are NAME=VALUE.
/// Ends when the started process ends, even if a child it left behind keeps the output open.
model::outcome<process_result> run(const std::vector<std::string>& command,
                                   const std::vector<std::string>& extra,
                                   std::chrono::milliseconds limit);

} // namespace qubes::drivers
