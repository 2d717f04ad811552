// drivers/process: programs that are started and ended.
//
// Runs external commands for drivers; a parameter, so that tests can record what would be run.
#pragma once

#include "drivers/process/process.hpp"

#include <memory>

namespace qubes::drivers {

struct command {
  std::vector<std::string> words;          ///< program and arguments, no shell
  std::vector<std::string> environment{};  ///< NAME=VALUE, beside the daemon's own
  std::chrono::milliseconds limit{600000}; ///< killed after this
  outputs how = outputs::together;
  bool copies = false; ///< may be killed half-way when the copy is not wanted any more
  attention watch{};
};

class command_runner {
public:
  virtual ~command_runner() = default;

  /// The program's status and output; an error when it could not be run or was killed.
  virtual model::outcome<process_result> run(const command& x) = 0;
};

std::shared_ptr<command_runner> make_command_runner();

/// Runs a command that must succeed; any other status is errc::storage with what it said.
model::outcome<std::string> run_or_fail(command_runner& with, const command& x);

} // namespace qubes::drivers
