#include "drivers/spawn.hpp"

#include "drivers/own_limits.hpp"
#include "drivers/reason.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <string_view>

namespace qubes::drivers {

namespace {

/// What our own service manager told us is nothing a child may act upon.
constexpr std::array<std::string_view, 6> private_variables{
    "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"};

std::string_view name_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

std::vector<std::string> environment(const std::vector<std::string>& extra) {
  auto all = extra;
  for (auto** x = environ; x && *x; ++x) {
    auto name = name_of(*x);
    auto same = [&](std::string_view other) { return name_of(other) == name; };
    if (std::ranges::none_of(private_variables, same) && std::ranges::none_of(extra, same))
      all.emplace_back(*x);
  }
  return all;
}

/// The form execve wants; `words` must outlive it.
std::vector<char*> pointers(std::vector<std::string>& words) {
  auto all = std::vector<char*>{};
  for (auto& x : words)
    all.push_back(x.data());
  all.push_back(nullptr);
  return all;
}

/// What happens in the child between fork and exec.
class birth {
public:
  explicit birth(const plugs& with) {
    ::posix_spawn_file_actions_init(&files_);
    ::posix_spawnattr_init(&attributes_);

    constexpr auto third = STDERR_FILENO + 1;
    ::posix_spawn_file_actions_adddup2(&files_, with.output, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&files_, with.errors, STDERR_FILENO);
    if (with.input < 0)
      ::posix_spawn_file_actions_addopen(&files_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    else
      ::posix_spawn_file_actions_adddup2(&files_, with.input, STDIN_FILENO);
    if (with.third >= 0) // last: the others may have had this number
      ::posix_spawn_file_actions_adddup2(&files_, with.third, third);
    ::posix_spawn_file_actions_addclosefrom_np(&files_, with.third < 0 ? third : third + 1);

    auto none = sigset_t{};
    auto all = sigset_t{};
    sigemptyset(&none);
    sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
                                                 | POSIX_SPAWN_SETPGROUP);
  }
  birth(const birth&) = delete;
  birth& operator=(const birth&) = delete;
  ~birth() {
    ::posix_spawn_file_actions_destroy(&files_);
    ::posix_spawnattr_destroy(&attributes_);
  }

  /// 0 or the reason.
  int start(pid_t& child, std::vector<std::string> command, std::vector<std::string> variables) {
    auto arguments = pointers(command);
    auto settings = pointers(variables);
    return ::posix_spawnp(&child, arguments[0], &files_, &attributes_, arguments.data(),
                          settings.data());
  }

private:
  posix_spawn_file_actions_t files_{};
  posix_spawnattr_t attributes_{};
};

} // namespace

model::outcome<child> spawn(const std::vector<std::string>& command,
                            const std::vector<std::string>& extra, const plugs& with) {
  auto cannot = [&](int code) {
    return model::fail(model::errc::general,
                       fmt::format("cannot run '{}': {}", command[0], reason(code)));
  };
  auto result = child{};
  if (auto code = birth{with}.start(result.pid, command, environment(extra)); code != 0)
    return cannot(code);
  give_back_limits(result.pid);
  result.handle = unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, result.pid, 0))};
  if (!result.handle) {
    auto code = errno;
    ::kill(-result.pid, SIGKILL);
    bury(result);
    return cannot(code);
  }
  return result;
}

std::optional<int> bury(const child& x) {
  auto raw = 0;
  while (::waitpid(x.pid, &raw, 0) < 0)
    if (errno != EINTR)
      return std::nullopt;
  return WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
}

void kill_and_bury(const child& x) {
  constexpr auto burial_ms = 2000;
  ::kill(-x.pid, SIGKILL);
  auto ended = pollfd{x.handle.get(), POLLIN, 0};
  if (::poll(&ended, 1, burial_ms) > 0)
    bury(x);
}

} // namespace qubes::drivers
