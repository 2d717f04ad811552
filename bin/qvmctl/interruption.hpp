// Ctrl-C as a request to stop, for what must be cleaned up.
#pragma once

#include "drivers/unique_fd.hpp"

#include <csignal>
#include <stop_token>
#include <thread>

namespace qubes::ctl {

/// As long as it lives, SIGINT and SIGTERM raise its token; the second one ends the program at
/// once. A reader that goes away is an error of a write.
class interruption {
public:
  interruption();
  ~interruption();
  interruption(const interruption&) = delete;
  interruption& operator=(const interruption&) = delete;

  std::stop_token token() const noexcept { return stop_.get_token(); }
  bool raised() const noexcept { return stop_.stop_requested(); }

private:
  void listen(int signals, int over);

  sigset_t meant_{};
  sigset_t before_{};
  std::stop_source stop_;
  drivers::unique_fd over_;
  std::thread listener_;
};

} // namespace qubes::ctl
