// Runs a program to its end, bounded in time and output.
#pragma once

#include "model/base/error.hpp"

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::drivers {

/// What becomes of standard output and standard error.
enum class outputs : std::uint8_t {
  together, ///< both in `output`, cut at 64 KiB
  apart,    ///< a report of up to 16 MiB in `output`, and what is said about it in `errors`
};

struct process_result {
  int status = 0; ///< exit code; 128 + signal when killed
  std::string output;
  std::string errors{}; ///< cut at 64 KiB
};

/// What happens to a program while it runs.
struct attention {
  std::string input{};               ///< what it reads; at most 64 KiB
  std::stop_token stop{};            ///< the program is killed then (errc::general)
  std::function<void(pid_t)> look{}; ///< called about once a second
};

/// Starts without a shell, standard input from `watch.input`, all other descriptors closed,
/// NOTIFY_SOCKET unset. Killed with its children at `limit` (errc::timed_out). `extra` are
/// NAME=VALUE. Ends when the started process ends, even if a child it left behind keeps the output
/// open.
model::outcome<process_result> run(const std::vector<std::string>& command,
                                   const std::vector<std::string>& extra,
                                   std::chrono::milliseconds limit, outputs how = outputs::together,
                                   const attention& watch = {});

} // namespace qubes::drivers
