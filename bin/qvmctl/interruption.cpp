#include "bin/qvmctl/interruption.hpp"

#include "drivers/io/quiet_thread.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <ctime>
#include <utility>

namespace qubes::ctl {

namespace {

bool is_ignored(int signal) {
  struct sigaction now {};
  return ::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

} // namespace

interruption::interruption() : over_(::eventfd(0, EFD_CLOEXEC)) {
  sigemptyset(&meant_);
  sigaddset(&meant_, SIGINT);
  sigaddset(&meant_, SIGTERM);
  if (!is_ignored(SIGHUP)) // a signal that is blocked would come all the same
    sigaddset(&meant_, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &meant_, &before_);
  ::signal(SIGPIPE, SIG_IGN);
  auto signals = drivers::unique_fd{::signalfd(-1, &meant_, SFD_CLOEXEC)};
  listener_ = drivers::quiet_thread(
      [this, signals = std::move(signals)] { listen(signals.get(), over_.get()); });
}

interruption::~interruption() {
  const auto one = std::uint64_t{1};
  [[maybe_unused]] auto put = ::write(over_.get(), &one, sizeof one);
  listener_.join();
  const auto now = timespec{};
  while (::sigtimedwait(&meant_, nullptr, &now) > 0) // a signal that came too late to matter
    ;
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void interruption::forget() const noexcept {
  ::signal(SIGPIPE, SIG_DFL);
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void interruption::removes(std::string path) {
  auto lock = std::lock_guard{mutex_};
  removed_ = std::move(path);
}

/// By the listener, a thread as any: locks and memory are as they should be.
void interruption::end(int signal) {
  auto lock = std::lock_guard{mutex_};
  if (!removed_.empty())
    ::unlink(removed_.c_str());
  ::_exit(128 + signal);
}

void interruption::listen(int signals, int over) {
  for (;;) {
    auto watched = std::array{pollfd{signals, POLLIN, 0}, pollfd{over, POLLIN, 0}};
    if (::poll(watched.data(), watched.size(), -1) < 0)
      continue;
    if (watched[1].revents != 0)
      return;
    auto heard = signalfd_siginfo{};
    if (::read(signals, &heard, sizeof heard) != sizeof heard)
      continue;
    if (!stop_.request_stop())
      end(static_cast<int>(heard.ssi_signo));
  }
}

} // namespace qubes::ctl
