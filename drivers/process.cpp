#include "drivers/process.hpp"
#include "drivers/reason.hpp"
#include "drivers/unique_fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <optional>
#include <string_view>

namespace qubes::drivers {

namespace {

using clock = std::chrono::steady_clock;
using model::errc;
using model::fail;

constexpr std::size_t output_limit = 65536;
constexpr std::size_t report_limit = std::size_t{16} << 20;

/// Even a killed process may hang in the kernel (a dead disk); it is left behind after this.
constexpr std::chrono::seconds burial{2};

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
  birth(int output, int errors) {
    ::posix_spawn_file_actions_init(&files_);
    ::posix_spawnattr_init(&attributes_);

    ::posix_spawn_file_actions_adddup2(&files_, output, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&files_, errors, STDERR_FILENO);
    ::posix_spawn_file_actions_addopen(&files_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addclosefrom_np(&files_, STDERR_FILENO + 1);

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

/// Milliseconds for poll(), rounded up so that nobody spins before the deadline.
int left_until(clock::time_point deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
  return static_cast<int>(std::clamp<decltype(left)>(left, 0, 60'000));
}

/// One end of a pipe, and what came through it.
struct stream {
  unique_fd ours{};
  unique_fd theirs{};
  std::size_t limit = output_limit;
  std::string text{};

  /// 0 or the reason.
  int open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
      return errno;
    ours = unique_fd{ends[0]};
    theirs = unique_fd{ends[1]};
    ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
    return 0;
  }

  /// Takes what is there, at most a pipe full; false when there will be no more.
  bool drain() {
    auto room = std::array<char, 8192>{};
    for (auto rounds = 0; rounds < 8; ++rounds) {
      auto got = ::read(ours.get(), room.data(), room.size());
      if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
        return false;
      if (got < 0 && errno == EAGAIN)
        return true;
      if (got > 0)
        text.append(room.data(), std::min(static_cast<std::size_t>(got), limit - text.size()));
    }
    return true;
  }
};

using streams = std::array<stream, 2>;

/// True when the process ended before the deadline.
bool wait_for_end(int process, streams& from, clock::time_point deadline) {
  auto watched = std::array{pollfd{process, POLLIN, 0}, pollfd{from[0].ours.get(), POLLIN, 0},
                            pollfd{from[1].ours.get(), POLLIN, 0}};
  do {
    if (::poll(watched.data(), watched.size(), left_until(deadline)) < 0)
      continue;
    for (auto i = std::size_t{0}; i < from.size(); ++i)
      if (watched[i + 1].revents != 0 && !from[i].drain())
        watched[i + 1].fd = -1;
    if (watched[0].revents != 0)
      return true;
  } while (clock::now() < deadline);
  return false;
}

std::optional<int> status_of(pid_t child) {
  auto raw = 0;
  while (::waitpid(child, &raw, 0) < 0)
    if (errno != EINTR)
      return std::nullopt;
  return WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
}

} // namespace

model::outcome<process_result> run(const std::vector<std::string>& command,
                                   const std::vector<std::string>& extra,
                                   std::chrono::milliseconds limit, outputs how) {
  if (command.empty())
    return fail(errc::internal, "cannot run a program: the command is empty");
  auto cannot = [&](int code) {
    return fail(errc::general, fmt::format("cannot run '{}': {}", command[0], reason(code)));
  };

  auto apart = how == outputs::apart;
  auto from = streams{};
  if (auto code = from[0].open(); code != 0)
    return cannot(code);
  if (apart) {
    from[0].limit = report_limit;
    if (auto code = from[1].open(); code != 0)
      return cannot(code);
  }

  auto deadline = clock::now() + limit;
  auto child = pid_t{};
  auto& errors = apart ? from[1].theirs : from[0].theirs;
  if (auto code =
          birth{from[0].theirs.get(), errors.get()}.start(child, command, environment(extra));
      code != 0)
    return cannot(code);
  for (auto& x : from)
    x.theirs.reset();
  auto process = unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, child, 0))};
  if (!process) {
    auto code = errno;
    ::kill(-child, SIGKILL);
    status_of(child);
    return cannot(code);
  }

  if (!wait_for_end(process.get(), from, deadline)) {
    ::kill(-child, SIGKILL);
    if (wait_for_end(process.get(), from, clock::now() + burial))
      status_of(child);
    return fail(errc::timed_out,
                fmt::format("'{}' did not end within {} s and was killed", command[0],
                            static_cast<double>(limit.count()) / 1000));
  }
  for (auto& x : from)
    if (x.ours)
      x.drain();
  auto status = status_of(child);
  if (!status)
    return cannot(errno);
  return process_result{*status, std::move(from[0].text), std::move(from[1].text)};
}

} // namespace qubes::drivers
