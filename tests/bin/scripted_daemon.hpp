// The built qvmctl as a child process, and a daemon that does what a test says.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace qubes::ctl_tests {

using namespace std::chrono_literals;
using namespace std::string_literals;
using nlohmann::json;
inline constexpr auto patience = 20s; // only a fault waits this long

// -- the daemon of the tests ----------------------------------------------------------------

/// One request, and the way to answer it.
class call {
public:
  call(int fd, std::string bytes) : fd_(fd), bytes_(std::move(bytes)) {
    auto nul = bytes_.find('\0');
    auto head = std::stringstream{bytes_.substr(0, nul)};
    auto first = std::string{};
    head >> first >> source >> kind >> destination;
    auto plus = first.find('+');
    method = first.substr(0, plus);
    argument = plus == std::string::npos ? "" : first.substr(plus + 1);
    payload = nul == std::string::npos ? "" : bytes_.substr(nul + 1);
  }

  void raw(std::string_view bytes) const {
    while (!bytes.empty()) {
      auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0)
        return;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  void ok(const std::string& text = "") const { raw("0\0"s + text); }

  void refuse(const std::string& klass, const std::string& text) const {
    raw("2\0"s + klass + "\0\0"s + text + "\0"s);
  }

  void event(const std::string& subject, const std::string& name,
             const std::vector<std::pair<std::string, std::string>>& args = {}) const {
    auto bytes = "1\0"s + subject + "\0"s + name + "\0"s;
    for (auto& [key, value] : args)
      bytes.append(key).append("\0"s).append(value).append("\0"s);
    raw(bytes + "\0"s);
  }

  /// Holds the connection open until the other side closes it.
  void hold() const {
    auto x = pollfd{fd_, POLLRDHUP, 0};
    // The client half-closed long ago; only POLLHUP and POLLERR tell that it is gone.
    x.events = 0;
    ::poll(&x, 1, static_cast<int>(std::chrono::milliseconds{patience}.count()));
  }

  const std::string& bytes() const { return bytes_; }

  /// "METHOD+ARG DEST PAYLOAD", for comparing.
  std::string line() const {
    return method + (argument.empty() ? "" : "+" + argument) + " " + destination
           + (payload.empty() ? "" : " " + payload);
  }

  std::string method, argument, source, kind, destination, payload;

private:
  int fd_;
  std::string bytes_;
};

using script = std::function<void(const call&)>;

/// A daemon that does what a script says, one thread per connection.
class scripted_daemon {
public:
  explicit scripted_daemon(script what) : what_(std::move(what)) {
    auto folder = (std::filesystem::temp_directory_path() / "qvmctl-XXXXXX").string();
    folder_ = ::mkdtemp(folder.data());
    path_ = folder_ + "/d.sock";
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto address = sockaddr_un{};
    address.sun_family = AF_UNIX;
    std::copy(path_.begin(), path_.end(), address.sun_path);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_, 4096), 0);
    acceptor_ = std::thread{[this] { accept(); }};
  }

  ~scripted_daemon() {
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    for (auto& x : threads_)
      x.join();
    std::filesystem::remove_all(folder_);
  }

  const std::string& path() const { return path_; }

  /// Requests in the order they were read, "METHOD+ARG DEST PAYLOAD".
  std::vector<std::string> requests() const {
    auto lock = std::lock_guard{mutex_};
    return requests_;
  }

private:
  void accept() {
    for (;;) {
      auto fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0)
        return;
      threads_.emplace_back([this, fd] { serve(fd); });
    }
  }

  void serve(int fd) {
    auto bytes = std::string{};
    char buffer[4096];
    for (ssize_t n; (n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;)
      bytes.append(buffer, static_cast<std::size_t>(n));
    auto x = call{fd, bytes};
    {
      auto lock = std::lock_guard{mutex_};
      requests_.push_back(x.line());
    }
    what_(x);
    ::close(fd);
  }

  script what_;
  std::string folder_, path_;
  int listener_ = -1;
  std::thread acceptor_;
  std::vector<std::thread> threads_;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
};

/// A count that threads wait for.
class gate {
public:
  void pass() {
    auto lock = std::lock_guard{mutex_};
    ++count_;
    changed_.notify_all();
  }

  bool wait_for(int count) {
    auto lock = std::unique_lock{mutex_};
    return changed_.wait_for(lock, patience, [&] { return count_ >= count; });
  }

  bool has(int count) {
    auto lock = std::lock_guard{mutex_};
    return count_ >= count;
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

// -- the program ----------------------------------------------------------------------------

struct outcome {
  int code = -1;
  std::string out;
  std::string err;
};

using words = std::vector<std::string>;

/// Arguments in the form that exec(3) takes.
inline std::vector<char*> pointers(words& from) {
  auto result = std::vector<char*>{};
  for (auto& x : from)
    result.push_back(x.data());
  result.push_back(nullptr);
  return result;
}

/// No machine is so busy that a completion gives up.
inline const auto completion_waits = std::pair{"QVMCTL_COMPLETION_SECONDS", "60"};

inline const auto program = std::string{QVMD_BINARY_DIR "/bin/qvmctl"};

/// Arguments and environment of the program, made before the fork: another thread may hold the
/// allocator's lock at the fork, and the child would wait for that lock for ever.
class invocation {
public:
  invocation(const words& args, std::map<std::string, std::string> env) : args_(args) {
    env.try_emplace("TERM", "xterm-256color");
    env.insert(completion_waits);
    for (auto* x = environ; *x != nullptr; ++x) {
      auto name = std::string{*x}.substr(0, std::string_view{*x}.find('='));
      if (name != "NO_COLOR" && name != "COLORTERM" && name != "QVMCTL_SOCKET"
          && !env.contains(name))
        env_.emplace_back(*x);
    }
    for (auto& [key, value] : env)
      env_.push_back(key + "=" + value);
    args_.insert(args_.begin(), program);
    argv_ = pointers(args_);
    envp_ = pointers(env_);
  }

  [[noreturn]] void become_qvmctl() const {
    ::execve(program.c_str(), argv_.data(), envp_.data());
    ::_exit(127);
  }

private:
  words args_;
  words env_;
  std::vector<char*> argv_;
  std::vector<char*> envp_;
};

inline int code_of(pid_t child) {
  auto status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

inline std::string read_all(int fd) {
  auto result = std::string{};
  char buffer[4096];
  for (ssize_t n; (n = ::read(fd, buffer, sizeof(buffer))) > 0;)
    result.append(buffer, static_cast<std::size_t>(n));
  ::close(fd);
  return result;
}

inline outcome run(const words& args, const std::map<std::string, std::string>& env = {}) {
  int out[2], err[2];
  EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
  EXPECT_EQ(::pipe2(err, O_CLOEXEC), 0);
  auto what = invocation{args, env};
  auto null_device = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  auto child = ::fork();
  if (child == 0) {
    ::dup2(null_device, STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(err[1], STDERR_FILENO);
    what.become_qvmctl();
  }
  ::close(null_device);
  ::close(out[1]);
  ::close(err[1]);
  auto result = outcome{};
  auto reader = std::thread{[&] { result.err = read_all(err[0]); }};
  result.out = read_all(out[0]);
  reader.join();
  result.code = code_of(child);
  return result;
}

/// Runs the program on a terminal; `out` has everything that the terminal was sent.
inline outcome run_on_terminal(const words& args,
                               const std::map<std::string, std::string>& env = {},
                               unsigned short columns = 100) {
  auto size = winsize{24, columns, 0, 0};
  auto master = -1;
  auto what = invocation{args, env};
  auto child = ::forkpty(&master, nullptr, nullptr, &size);
  if (child == 0)
    what.become_qvmctl();
  auto result = outcome{};
  result.out = read_all(master);
  std::erase(result.out, '\r');
  result.code = code_of(child);
  return result;
}

struct qvmctl : ::testing::Test {
  void serve(script what) { daemon = std::make_unique<scripted_daemon>(std::move(what)); }

  outcome ctl(words args, const std::map<std::string, std::string>& env = {}) {
    args.insert(args.begin(), {"--socket", daemon->path()});
    return run(args, env);
  }

  outcome ctl_on_terminal(words args, const std::map<std::string, std::string>& env = {},
                          unsigned short columns = 100) {
    args.insert(args.begin(), {"--socket", daemon->path()});
    return run_on_terminal(args, env, columns);
  }

  std::unique_ptr<scripted_daemon> daemon;
};

// -- a small host ---------------------------------------------------------------------------

inline json domain(const std::string& name, const std::string& state, const std::string& netvm = "",
                   const std::string& label = "red") {
  return {{"name", name},
          {"class", name == "dom0" ? "AdminVM" : "AppVM"},
          {"state", state},
          {"label", label},
          {"color", label == "red" ? "0xcc0000" : "0x000000"},
          {"template", name == "dom0" ? json{} : json("fedora")},
          {"netvm", netvm.empty() ? json{} : json(netvm)},
          {"provides_network", name.starts_with("sys-")},
          {"memory", 400},
          {"maxmem", 4000},
          {"xid", state == "Halted" ? -1 : 7},
          {"uuid", "11111111-1111-4111-8111-111111111111"},
          {"ip", netvm.empty() ? json{} : json("10.137.0.9")},
          {"degraded", false}};
}

/// sys-net <- sys-firewall <- { mail, work }; vault has no network.
inline std::vector<json> small_host(const std::string& state) {
  return {domain("dom0", "Running", "", "black"),
          domain("mail", state, "sys-firewall"),
          domain("sys-firewall", state, "sys-net"),
          domain("sys-net", state),
          domain("vault", "Halted"),
          domain("work", state, "sys-firewall")};
}

inline std::string overview(const std::vector<json>& domains) {
  return json{{"domains", domains}}.dump();
}

inline std::string list_line(const json& x) {
  return fmt::format("{} class={} state={} uuid={}\n", x["name"].get<std::string>(),
                     x["class"].get<std::string>(), x["state"].get<std::string>(),
                     x["uuid"].get<std::string>());
}

/// Serves the overview and hands every other request on.
inline script host(
    std::vector<json> domains, script rest = [](auto& x) { x.ok(); }) {
  return [domains = std::move(domains), rest = std::move(rest)](const call& x) {
    if (x.method == "qvmd.Overview")
      return x.ok(overview(domains));
    rest(x);
  };
}

/// Answers every method with the same text.
inline script always(const std::string& text) {
  return [text](const call& x) { x.ok(text); };
}

inline std::vector<std::string> lines_of(const std::string& text) {
  auto result = std::vector<std::string>{};
  auto from = std::stringstream{text};
  for (auto line = std::string{}; std::getline(from, line);)
    result.push_back(line);
  return result;
}

/// A host in which a test can change a domain's state, with an event that tells of the change.
class living_host {
public:
  explicit living_host(std::vector<json> domains) : domains_(std::move(domains)) {}

  void operator()(const call& x) {
    if (x.method == "qvmd.Overview")
      return x.ok(overview(domains()));
    if (x.method == "admin.vm.List")
      return list(x);
    if (x.method != "admin.Events")
      return others(x);
    x.event("", "connection-established");
    auto lock = std::unique_lock{mutex_};
    while (!ended_ && changed_.wait_for(lock, patience, [&] { return ended_ || !news_.empty(); })
           && !ended_) {
      auto [name, what] = news_.front();
      news_.erase(news_.begin());
      x.event(name, what);
    }
  }

  void become(const std::string& name, const std::string& state, const std::string& event) {
    auto lock = std::lock_guard{mutex_};
    for (auto& x : domains_)
      if (x["name"] == name)
        x["state"] = state;
    news_.emplace_back(name, event);
    changed_.notify_all();
  }

  void remove(const std::string& name) {
    auto lock = std::lock_guard{mutex_};
    std::erase_if(domains_, [&](auto& x) { return x["name"] == name; });
    news_.emplace_back(name, "domain-delete");
    changed_.notify_all();
  }

  void end() {
    auto lock = std::lock_guard{mutex_};
    ended_ = true;
    changed_.notify_all();
  }

  script others = [](auto& x) { x.ok(); };
  script on_list = [](auto&) {};

private:
  std::vector<json> domains() {
    auto lock = std::lock_guard{mutex_};
    return domains_;
  }

  void list(const call& x) {
    auto text = std::string{};
    for (auto& y : domains())
      if (x.destination == "dom0" || y["name"] == x.destination)
        text += list_line(y);
    if (text.empty())
      x.refuse("QubesVMNotFoundError", "No such domain: '" + x.destination + "'");
    else
      x.ok(text);
    on_list(x);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<json> domains_;
  std::vector<std::pair<std::string, std::string>> news_;
  bool ended_ = false;
};

struct qvmctl_of_a_living_host : qvmctl {
  living_host world{small_host("Halted")};

  void SetUp() override {
    serve([this](auto& x) { world(x); });
  }

  void TearDown() override {
    world.end();
    daemon.reset();
  }
};

inline bool is_installed(const char* program) {
  return std::system(fmt::format("command -v {} >/dev/null", program).c_str()) == 0;
}

} // namespace qubes::ctl_tests
