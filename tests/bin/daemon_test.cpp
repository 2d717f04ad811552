// The daemon as the service manager sees it: a process, a file, three sockets, signals.
#include "model/xml/qubes_xml.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace qubes {

namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using testing::HasSubstr;

constexpr auto qvmd = QVMD_BINARY_DIR "/bin/qvmd";
constexpr auto make_state = QVMD_BINARY_DIR "/bin/qvmd-make-state";

std::string read_file(const std::filesystem::path& path) {
  auto in = std::ifstream{path};
  auto text = std::stringstream{};
  text << in.rdbuf();
  return text.str();
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream{path} << text;
}

/// A program in the background; killed with the object if it still runs.
class process {
public:
  process(std::vector<std::string> command, const std::string& output) {
    std::fflush(nullptr); // the child must not write our buffers a second time
    pid_ = fork();
    if (pid_ == 0) {
      std::freopen(output.c_str(), "w", stderr);
      std::freopen(output.c_str(), "a", stdout);
      auto words = std::vector<char*>{};
      for (auto& x : command)
        words.push_back(x.data());
      words.push_back(nullptr);
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

int run(std::vector<std::string> command, const std::string& output) {
  return process{std::move(command), output}.wait();
}

struct daemon_test : ::testing::Test {
  daemon_test() {
    auto pattern = (std::filesystem::temp_directory_path() / "qvmd-test.XXXXXX").string();
    top = mkdtemp(pattern.data());
    EXPECT_EQ(run({make_state, top, "--domains", "3", "--chain", "1"}, top / "make-state.log"), 0);
  }
  ~daemon_test() override { std::filesystem::remove_all(top); }

  std::string config() const { return top / "qvmd.toml"; }
  std::string log() const { return read_file(top / "qvmd.log"); }
  std::string socket() const { return top / "run" / "qubesd.sock"; }

  void start() {
    daemon = std::make_unique<process>(std::vector<std::string>{qvmd, "--config", config()},
                                       top / "qvmd.log");
    auto deadline = std::chrono::steady_clock::now() + 20s;
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

  std::string call(std::string_view method, std::string_view to,
                   std::string_view payload = "") const {
    auto fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto address = sockaddr_un{.sun_family = AF_UNIX, .sun_path = {}};
    socket().copy(address.sun_path, sizeof address.sun_path - 1);
    auto result = std::string{};
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
      auto bytes = fmt::format("{} dom0 name {}", method, to) + "\0"s + std::string{payload};
      EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
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

  /// An app domain of the made state.
  model::domain app() const {
    auto loaded = model::xml::load(read_file(top / "state" / "qubes.xml"), {}, [] { return ""s; });
    for (auto& x : loaded->system.domains)
      if (x->type == model::klass::app && !x->properties.contains("provides_network"))
        return *x;
    return {};
  }

  std::filesystem::path top;
  std::unique_ptr<process> daemon;
};

} // namespace

TEST_F(daemon_test, serves_three_sockets_for_the_group_and_stops_at_sigterm) {
  start();
  for (auto x : {"qubesd.sock", "qubesd.internal.sock", "qubesd.misc.sock"}) {
    struct stat found {};
    ASSERT_EQ(stat((top / "run" / x).c_str(), &found), 0) << x;
    EXPECT_EQ(found.st_mode & 0777U, 0660U) << x;
  }
  auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(stop(), 0) << log();
  EXPECT_LT(std::chrono::steady_clock::now() - before, 5s);
  EXPECT_FALSE(std::filesystem::exists(socket()));
}

TEST_F(daemon_test, adopts_domains_that_run_already) {
  auto x = app();
  write_file(top / "node.xml",
             fmt::format(R"(<node><cpu><mhz>1000</mhz><model>x86_64</model><active>2</active>
<nodes>1</nodes><sockets>1</sockets><cores>2</cores><threads>1</threads></cpu><memory>4194304</memory>
<domain type="test" xmlns:test="http://libvirt.org/schemas/domain/test/1.0"><name>{}</name><uuid>{}</uuid>
<memory>409600</memory><os><type>hvm</type></os><test:runstate>1</test:runstate></domain></node>)",
                         x.name.str(), x.uuid));
  auto text = read_file(config());
  text.replace(text.find("test:///default"), "test:///default"s.size(),
               fmt::format("test://{}", (top / "node.xml").string()));
  write_file(config(), text);
  start();
  EXPECT_THAT(call("admin.vm.List", x.name.str()), HasSubstr("state=Running")) << log();
  EXPECT_THAT(call("admin.vm.Kill", x.name.str()), testing::StartsWith("0"));
  EXPECT_THAT(call("admin.vm.List", x.name.str()), HasSubstr("state=Halted"));
}

TEST_F(daemon_test, a_live_socket_is_an_error_and_a_stale_one_is_replaced) {
  start();
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "second.log"), 1);
  EXPECT_THAT(read_file(top / "second.log"), HasSubstr("qubesd.sock"));
  EXPECT_THAT(call("admin.vm.List", "dom0"), HasSubstr("dom0")) << "the first one goes on";
  daemon.reset(); // killed: its sockets stay behind
  EXPECT_TRUE(std::filesystem::exists(socket()));
  start();
}

TEST_F(daemon_test, what_was_acknowledged_survives_kill_minus_nine) {
  auto x = app();
  start();
  ASSERT_THAT(call("admin.vm.property.Set+memory", x.name.str(), "777"), testing::StartsWith("0"));
  daemon.reset();
  start();
  EXPECT_THAT(call("admin.vm.property.Get+memory", x.name.str()),
              HasSubstr("default=False type=int 777"));
}

TEST_F(daemon_test, sighup_adopts_a_file_that_somebody_else_changed) {
  auto x = app();
  start();
  auto path = top / "state" / "qubes.xml";
  auto loaded = model::xml::load(read_file(path), {}, [] { return ""s; });
  auto changed = x;
  changed.properties["memory"] = std::int64_t{888};
  loaded->system.put(std::make_shared<model::domain>(changed));
  write_file(path, model::xml::save(loaded->system));
  EXPECT_THAT(call("admin.vm.property.Set+vcpus", x.name.str(), "3"),
              HasSubstr("somebody else changed"));
  daemon->signal(SIGHUP);
  auto deadline = std::chrono::steady_clock::now() + 20s;
  while (call("admin.vm.property.Get+memory", x.name.str()).find("888") == std::string::npos)
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << log();
  EXPECT_THAT(call("admin.vm.property.Set+vcpus", x.name.str(), "3"), testing::StartsWith("0"));
}

TEST_F(daemon_test, an_unusable_file_without_generations_ends_with_a_reason) {
  write_file(top / "state" / "qubes.xml", "<qubes><lab");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 1);
  EXPECT_THAT(log(), HasSubstr("qubes.xml"));
}

TEST_F(daemon_test, wrong_configuration_names_line_key_and_remedy) {
  write_file(config(), "[paths]\nstat = \"/x\"\n");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2);
  EXPECT_THAT(log(), HasSubstr("line 2: paths.stat is no key; did you mean 'state'?"));
  write_file(config(), "[limits]\nconnections = 0\n");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2);
  EXPECT_THAT(log(), HasSubstr("from 1 to 100000"));
  write_file(config(), "[limits\n");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2);
  EXPECT_EQ(run({qvmd, "--config", top / "missing.toml"}, top / "qvmd.log"), 2);
}

} // namespace qubes
