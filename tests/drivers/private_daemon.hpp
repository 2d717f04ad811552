// A real daemon that belongs to one test: its own directory, ended with the test.
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace qubes::tests {

inline constexpr uid_t nobody = 65534;

/// A directory for one test that other users may enter, removed at the end.
class own_directory {
public:
  own_directory() {
    auto pattern = std::filesystem::temp_directory_path() / "qvmd-XXXXXX";
    auto text = pattern.string();
    path_ = ::mkdtemp(text.data());
    std::filesystem::permissions(path_, std::filesystem::perms::all);
  }
  ~own_directory() {
    auto ignored = std::error_code{};
    std::filesystem::remove_all(path_, ignored);
  }
  own_directory(const own_directory&) = delete;
  own_directory& operator=(const own_directory&) = delete;

  std::string operator/(const std::string& name) const { return path_ / name; }

private:
  std::filesystem::path path_;
};

class private_daemon {
public:
  /// `extra` are NAME=VALUE. Root starts the daemon as the user nobody where `drop_root`.
  private_daemon(std::vector<std::string> command, std::vector<std::string> extra,
                 const std::string& log, bool drop_root) {
    auto variables = std::vector<std::string>{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
    variables.insert(variables.end(), std::make_move_iterator(extra.begin()),
                     std::make_move_iterator(extra.end()));
    auto arguments = pointers(command);
    auto environment = pointers(variables);
    auto parent = ::getpid();
    pid_ = ::fork();
    if (pid_ != 0)
      return;
    auto out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    ::dup2(out, 1);
    ::dup2(out, 2);
    auto none = sigset_t{};
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    if (drop_root && ::geteuid() == 0
        && (::setgroups(0, nullptr) != 0 || ::setgid(nobody) != 0 || ::setuid(nobody) != 0))
      ::_exit(126);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL); // also when the test is killed
    if (::getppid() == parent)
      ::execve(arguments[0], arguments.data(), environment.data());
    ::_exit(127);
  }

  ~private_daemon() { kill(); }

  private_daemon(private_daemon&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  private_daemon& operator=(private_daemon&&) = delete;

  void send(int signal) const { ::kill(pid_, signal); }

  /// Stops the daemon; returns when it does nothing: a thread still on a processor could serve a
  /// call.
  void freeze() const {
    send(SIGSTOP);
    auto how = siginfo_t{};
    ::waitid(P_PID, static_cast<id_t>(pid_), &how, WSTOPPED);
  }

  void kill() {
    if (pid_ < 0)
      return;
    send(SIGKILL);
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

private:
  static std::vector<char*> pointers(std::vector<std::string>& texts) {
    auto result = std::vector<char*>{};
    for (auto& x : texts)
      result.push_back(x.data());
    result.push_back(nullptr);
    return result;
  }

  pid_t pid_ = -1;
};

inline std::string text_of(const std::string& file) {
  auto in = std::ifstream{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

} // namespace qubes::tests
