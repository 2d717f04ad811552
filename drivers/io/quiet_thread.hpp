// A thread that no signal lands on: the process's signals belong to its main thread.
#pragma once

#include <csignal>
#include <thread>
#include <utility>

namespace qubes::drivers {

template <class Body>
std::thread quiet_thread(Body&& body) {
  /// The new thread inherits the mask, so there is no moment at which it could take a signal.
  class all_blocked {
  public:
    all_blocked() {
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~all_blocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    all_blocked(const all_blocked&) = delete;
    all_blocked& operator=(const all_blocked&) = delete;

  private:
    sigset_t before_{};
  } guard;
  return std::thread{std::forward<Body>(body)};
}

} // namespace qubes::drivers
