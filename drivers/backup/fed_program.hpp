// A program that is fed through its standard input while its output is taken, until it ends or
// takes too long.
#pragma once

#include "drivers/io/stop_event.hpp"
#include "drivers/process/spawn.hpp"
#include "model/base/error.hpp"
#include "model/base/secret.hpp"

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::drivers {

/// Takes bytes in order; an error stops their sender.
using byte_sink = std::function<model::outcome<void>(std::string_view)>;

/// Blocks. Needs SIGPIPE to be ignored. Killed with all its children when dropped before its end.
class fed_program {
public:
  struct wiring {
    int output = -1;        ///< standard output goes there, or
    byte_sink to{};         ///< is handed over while the program is fed, or is thrown away
    model::secret secret{}; ///< what it reads from /dev/fd/3, if anything; at most a page
    const stop_event* stop; ///< put and end fail with errc::backup_cancelled once it is raised
  };

  static model::outcome<std::unique_ptr<fed_program>> start(const std::vector<std::string>& command,
                                                            wiring with);
  ~fed_program();
  fed_program(const fed_program&) = delete;
  fed_program& operator=(const fed_program&) = delete;

  /// A program that ends before it has read everything is an error.
  model::outcome<void> put(std::string_view bytes);

  /// Waits for the program to end by itself; any status but 0 is an error with what it said.
  model::outcome<void> end();

private:
  fed_program(std::string name, wiring with) : name_(std::move(name)), with_(std::move(with)) {}

  /// Waits until there is something to do and does it; `writing` is whether to wait for room.
  model::outcome<void> attend(bool writing, bool& room, bool& ended);
  model::outcome<bool> take_output();
  void take_errors();
  model::error failure(std::string_view what);

  std::string name_;
  wiring with_;
  child process_;
  unique_fd input_;
  unique_fd output_;
  unique_fd errors_;
  std::string said_;
};

} // namespace qubes::drivers
