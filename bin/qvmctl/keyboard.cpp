#include "bin/qvmctl/keyboard.hpp"

#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace qubes::ctl {

namespace {

constexpr auto terminal = STDIN_FILENO;

/// Signals that end the program or stop it, and the one with which it goes on.
constexpr std::array heeded{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT};

// What a handler of signals can reach.
termios before;
termios for_keys;
std::array<struct sigaction, heeded.size()> actions_before;

/// Who is in the background is stopped when it touches the terminal.
bool in_foreground() {
  return ::tcgetpgrp(terminal) == ::getpgrp();
}

void set(const termios& how) {
  if (in_foreground())
    ::tcsetattr(terminal, TCSANOW, &how);
}

/// Ends or stops as if no handler heeded the signal, with the terminal as it was.
void follow(int signal) {
  set(before);
  struct sigaction standard {
  }, ours{};
  standard.sa_handler = SIG_DFL;
  ::sigaction(signal, &standard, &ours);
  ::raise(signal);
  ::sigaction(signal, &ours, nullptr);
  set(for_keys);
}

extern "C" void on_signal(int signal) {
  const auto error = errno;
  if (signal == SIGCONT)
    set(for_keys);
  else
    follow(signal);
  errno = error;
}

void heed_signals() {
  struct sigaction ours {};
  ours.sa_handler = on_signal;
  ours.sa_flags = SA_RESTART | SA_NODEFER;
  for (auto i = std::size_t{0}; i < heeded.size(); ++i) {
    ::sigaction(heeded[i], nullptr, &actions_before[i]);
    if (actions_before[i].sa_handler != SIG_IGN)
      ::sigaction(heeded[i], &ours, nullptr);
  }
}

void heed_signals_no_more() {
  for (auto i = std::size_t{0}; i < heeded.size(); ++i)
    ::sigaction(heeded[i], &actions_before[i], nullptr);
}

} // namespace

std::unique_ptr<keyboard> keyboard::open() {
  if (!in_foreground() || ::tcgetattr(terminal, &before) != 0)
    return nullptr;
  for_keys = before;
  for_keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  for_keys.c_cc[VMIN] = 1;
  for_keys.c_cc[VTIME] = 0;
  heed_signals();
  set(for_keys);
  return std::unique_ptr<keyboard>{new keyboard};
}

keyboard::~keyboard() {
  for_keys = before; // for a signal that still comes
  set(before);
  heed_signals_no_more();
}

int keyboard::descriptor() const {
  return ended_ || !in_foreground() ? -1 : terminal;
}

std::optional<char> keyboard::key() {
  auto pressed = char{};
  auto got = ::read(terminal, &pressed, 1);
  if (got == 1)
    return pressed;
  ended_ = got == 0 || (errno != EINTR && errno != EAGAIN);
  return std::nullopt;
}

} // namespace qubes::ctl
