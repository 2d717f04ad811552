#include "drivers/process/spawn.hpp"

#include "drivers/process/process_handle.hpp"

#include "drivers/io/reason.hpp"
#include "drivers/io/unseen.hpp"
#include "drivers/process/own_limits.hpp"
#include "model/base/split.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string_view>

/// The C library's clone by its other name, which sanitizers do not stand in for.
extern "C" int __clone(int (*begin)(void*), void* stack, int flags, void* with, ...); // NOLINT

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

/// The form execve wants; `words` must outlive the result.
std::vector<char*> pointers(std::vector<std::string>& words) {
  auto all = std::vector<char*>{};
  for (auto& x : words)
    all.push_back(x.data());
  all.push_back(nullptr);
  return all;
}

/// What `name` may be, in the order in which it is looked for.
std::vector<std::string> files_of(const std::string& name) {
  if (name.find('/') != name.npos)
    return {name};
  auto* path = std::getenv("PATH");
  auto all = std::vector<std::string>{};
  for (auto folder : model::fields_of(path ? path : "/usr/local/bin:/usr/bin:/bin", ':'))
    all.push_back(fmt::format("{}/{}", folder.empty() ? "." : folder, name));
  return all;
}

/// What the child needs, made before there is one.
struct child_start {
  plugs with;
  limits_before limits;
  std::vector<char*> files, arguments, settings; ///< null at the end
  int why = 0;                                   ///< nothing could be begun
};

QVMD_UNSEEN long plug(int from, int as) {
  return from == as ? ::syscall(SYS_fcntl, from, F_SETFD, 0) : ::syscall(SYS_dup3, from, as, 0);
}

QVMD_UNSEEN bool plug_in(const plugs& with) {
  constexpr auto third = STDERR_FILENO + 1;
  if (plug(with.output, STDOUT_FILENO) < 0 || plug(with.errors, STDERR_FILENO) < 0)
    return false;
  auto input = static_cast<long>(with.input);
  if (input < 0)
    input = ::syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY);
  if (input < 0 || plug(static_cast<int>(input), STDIN_FILENO) < 0)
    return false;
  if (with.third >= 0 && plug(with.third, third) < 0) // last: the others may have had this number
    return false;
  return ::syscall(SYS_close_range, with.third < 0 ? third : third + 1, ~0U, 0) == 0;
}

/// As if no action and no mask of signals had been set.
QVMD_UNSEEN void forget_signals() {
  constexpr auto count = 64;
  constexpr auto mask_size = count / 8;
  const unsigned long none[8]{}; // of the kernel's own form: the default, no flags, no mask
  for (auto i = 1; i <= count; ++i)
    ::syscall(SYS_rt_sigaction, i, none, nullptr, mask_size);
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, none, nullptr, mask_size);
}

/// Back only when nothing could be begun, with the reason.
QVMD_UNSEEN int begin(const child_start& x) {
  if (::syscall(SYS_setpgid, 0, 0) < 0 || !plug_in(x.with))
    return errno;
  if (x.with.leashed)
    ::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
  give_back(x.limits);
  forget_signals();
  auto why = ENOENT;
  for (auto* const* file = x.files.data(); *file; ++file) {
    ::syscall(SYS_execve, *file, x.arguments.data(), x.settings.data());
    if (errno == ENOENT || errno == ENOTDIR)
      continue;
    why = errno;
    if (why != EACCES) // another folder may have one that can be run
      break;
  }
  return why;
}

QVMD_UNSEEN int run_child(void* raw) {
  auto& x = *static_cast<child_start*>(raw);
  x.why = begin(x);
  ::syscall(SYS_exit_group, 127);
  return 127;
}

/// No signal is taken while a child has our memory.
class undisturbed {
public:
  undisturbed() {
    auto all = sigset_t{};
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  undisturbed(const undisturbed&) = delete;
  undisturbed& operator=(const undisturbed&) = delete;
  ~undisturbed() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
  sigset_t before_{};
};

/// 0 or the reason. Back when the child is another program, or could not be one.
int bear(pid_t& child, std::vector<std::string> command, std::vector<std::string> variables,
         const plugs& with) {
  constexpr auto stack_size = std::size_t{64} << 10;
  auto files = files_of(command[0]);
  auto x = child_start{with, limits_to_give_back(), pointers(files), pointers(command),
                       pointers(variables)};
  auto stack =
      std::make_unique_for_overwrite<std::max_align_t[]>(stack_size / sizeof(std::max_align_t));
  auto* end = stack.get() + stack_size / sizeof(std::max_align_t); // a stack grows down
  auto quiet = undisturbed{};
  child = ::__clone(run_child, end, CLONE_VM | CLONE_VFORK | SIGCHLD, &x);
  if (child < 0)
    return errno;
  if (x.why != 0)
    ::waitpid(child, nullptr, 0);
  return x.why;
}

} // namespace

model::outcome<child> spawn(const std::vector<std::string>& command,
                            const std::vector<std::string>& extra, const plugs& with) {
  auto cannot = [&](int code) {
    return model::fail(model::errc::general,
                       fmt::format("cannot run '{}': {}", command[0], reason(code)));
  };
  auto result = child{};
  if (auto code = bear(result.pid, command, environment(extra), with); code != 0)
    return cannot(code);
  result.handle = handle_of(result.pid);
  if (!result.handle) {
    auto code = errno;
    ::kill(-result.pid, SIGKILL);
    reap(result);
    return cannot(code);
  }
  return result;
}

std::optional<int> reap(const child& x) {
  auto raw = 0;
  while (::waitpid(x.pid, &raw, 0) < 0)
    if (errno != EINTR)
      return std::nullopt;
  return WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
}

void kill_and_reap(const child& x) {
  constexpr auto burial_ms = 2000;
  ::kill(-x.pid, SIGKILL);
  auto ended = pollfd{x.handle.get(), POLLIN, 0};
  if (::poll(&ended, 1, burial_ms) > 0)
    reap(x);
}

} // namespace qubes::drivers
