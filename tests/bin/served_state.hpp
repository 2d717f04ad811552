// A qvmd process on a state directory of its own, spoken to over its sockets.
#pragma once

#include "model/xml/qubes_xml.hpp"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace qubes {

inline constexpr auto qvmd = QVMD_BINARY_DIR "/bin/qvmd";
inline constexpr auto make_state = QVMD_BINARY_DIR "/bin/qvmd-make-state";

inline std::string read_file(const std::filesystem::path& path) {
  auto in = std::ifstream{path};
  auto text = std::stringstream{};
  text << in.rdbuf();
  return text.str();
}

inline void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream{path} << text;
}

/// A program in the background; killed with the object if the program still runs.
class process {
public:
  process(std::vector<std::string> command, const std::string& output) {
    auto words = std::vector<char*>{}; // the child of a process with threads must not allocate
    for (auto& x : command)
      words.push_back(x.data());
    words.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      auto to = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
      dup2(to, STDOUT_FILENO);
      dup2(to, STDERR_FILENO);
      execv(words[0], words.data());
      _exit(127);
    }
  }
  ~process() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      wait();
    }
  }
  process(const process&) = delete;
  process& operator=(const process&) = delete;

  void signal(int number) const { kill(pid_, number); }

  /// The exit code, or 128 and the signal.
  int wait() {
    auto status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  bool ended() const {
    auto info = siginfo_t{};
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
    return info.si_pid != 0;
  }

private:
  pid_t pid_ = -1;
};

inline int run(std::vector<std::string> command, const std::string& output) {
  return process{std::move(command), output}.wait();
}

/// Two templates, sys-net, and the app domains banking, chat and code behind it.
struct served_state {
  served_state() {
    auto pattern = (std::filesystem::temp_directory_path() / "qvmd-test.XXXXXX").string();
    top = mkdtemp(pattern.data());
    EXPECT_EQ(run({make_state, top, "--domains", "3", "--chain", "1"}, top / "make-state.log"), 0);
  }
  ~served_state() {
    daemon.reset();
    std::filesystem::remove_all(top);
  }
  served_state(const served_state&) = delete;
  served_state& operator=(const served_state&) = delete;

  std::string config() const { return top / "qvmd.toml"; }
  /// The lines written until now: the daemon that runs may write later.
  std::string log() const { return read_file(top / "qvmd.log"); }
  /// Whether this is logged; waits for as long as the daemon may take to write it.
  bool logs(std::string_view what) const {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    while (log().find(what) == std::string::npos) {
      if (std::chrono::steady_clock::now() > deadline)
        return false;
      std::this_thread::yield();
    }
    return true;
  }
  std::string socket() const { return top / "run" / "qubesd.sock"; }

  void start() { start({qvmd, "--config", config()}); }

  void start(std::vector<std::string> command) {
    daemon = std::make_unique<process>(std::move(command), top / "qvmd.log");
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    while (call("admin.vmclass.List", "dom0").empty()) {
      ASSERT_FALSE(daemon->ended()) << log();
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << log();
      std::this_thread::yield();
    }
  }

  int stop() {
    daemon->signal(SIGTERM);
    auto result = daemon->wait();
    daemon.reset();
    return result;
  }

  /// The reply to these bytes; "" when there was none.
  std::string send(const std::string& socket_name, const std::string& bytes) const {
    auto fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto address = sockaddr_un{.sun_family = AF_UNIX, .sun_path = {}};
    (top / "run" / socket_name).string().copy(address.sun_path, sizeof address.sun_path - 1);
    auto result = std::string{};
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
      EXPECT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(bytes.size()));
      shutdown(fd, SHUT_WR);
      char buffer[4096];
      for (auto n = recv(fd, buffer, sizeof buffer, 0); n > 0;
           n = recv(fd, buffer, sizeof buffer, 0))
        result.append(buffer, static_cast<std::size_t>(n));
    }
    close(fd);
    return result;
  }

  std::string call(std::string_view method, std::string_view to,
                   std::string_view payload = "") const {
    return send("qubesd.sock",
                fmt::format("{} dom0 name {}", method, to) + '\0' + std::string{payload});
  }

  /// An app domain of the made state.
  model::domain app() const {
    auto loaded =
        model::xml::load(read_file(top / "state" / "qubes.xml"), {}, [] { return std::string{}; });
    for (auto& x : loaded->system.domains)
      if (x->type == model::klass::app && !x->properties.contains("provides_network"))
        return *x;
    return {};
  }

  std::filesystem::path top;
  std::unique_ptr<process> daemon;
};

} // namespace qubes
