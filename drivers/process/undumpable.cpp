#include "drivers/process/undumpable.hpp"

#include <sys/prctl.h>

#include <mutex>

namespace qubes::drivers {

namespace {

class dumps {
public:
  void forbid() {
    auto guard = std::lock_guard{mutex_};
    if (holders_++ > 0)
      return;
    before_ = ::prctl(PR_GET_DUMPABLE);
    ::prctl(PR_SET_DUMPABLE, 0);
  }
  void allow() {
    auto guard = std::lock_guard{mutex_};
    if (--holders_ == 0 && before_ == 1)
      ::prctl(PR_SET_DUMPABLE, 1);
  }

private:
  std::mutex mutex_;
  int holders_ = 0;
  int before_ = 1;
};

/// The state of the process, which no object owns.
dumps& of_process() {
  static auto all = dumps{};
  return all;
}

} // namespace

std::shared_ptr<void> stay_undumpable() {
  of_process().forbid();
  return {&of_process(), [](dumps* x) { x->allow(); }};
}

} // namespace qubes::drivers
