// Ctrl-C or a hang-up as a request to stop, for what must be cleaned up.
#pragma once

#include "drivers/io/unique_fd.hpp"

#include <csignal>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

namespace qubes::ctl {

/// As long as an object lives, SIGINT, SIGTERM and SIGHUP (unless ignored, as nohup has it) raise
/// its token; the second one ends the program at once. A reader that goes away is an error of a
/// write.
class interruption {
public:
  interruption();
  ~interruption();
  interruption(const interruption&) = delete;
  interruption& operator=(const interruption&) = delete;

  std::stop_token token() const noexcept { return stop_.get_token(); }
  bool raised() const noexcept { return stop_.stop_requested(); }

  /// In a child between fork and exec: signals mean to the child what they mean to any program.
  void forget() const noexcept;

  /// A file that is removed also where the program ends at once; "" for none.
  void removes(std::string path);

private:
  void listen(int signals, int over);
  [[noreturn]] void end(int signal);

  sigset_t meant_{};
  sigset_t before_{};
  std::stop_source stop_;
  std::mutex mutex_;
  std::string removed_;
  drivers::unique_fd over_;
  std::thread listener_;
};

} // namespace qubes::ctl
