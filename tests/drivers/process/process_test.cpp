#include "drivers/process/own_limits.hpp"
#include "drivers/process/process.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <csignal>
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

namespace qubes::drivers {
namespace {

using namespace std::chrono_literals;
using model::errc;
using testing::HasSubstr;
using testing::Not;

constexpr auto long_enough = 30s;

model::outcome<process_result> shell(const std::string& script,
                                     std::chrono::milliseconds limit = long_enough,
                                     const std::vector<std::string>& extra = {}) {
  return run({"/bin/sh", "-c", script}, extra, limit);
}

TEST(process, gives_status_and_both_outputs) {
  auto ended = shell("echo out; echo err >&2; exit 3");
  ASSERT_TRUE(ended) << ended.error().text;
  EXPECT_EQ(ended->status, 3);
  EXPECT_EQ(ended->output, "out\nerr\n");
}

TEST(process, reads_what_it_is_given_and_no_more) {
  auto feed = [](std::string_view input) {
    return run({"cat"}, {}, long_enough, outputs::together, {.input = std::string{input}});
  };
  EXPECT_EQ(feed("one\ntwo")->output, "one\ntwo");
  EXPECT_EQ(feed("")->output, "");
  EXPECT_EQ(feed(std::string(65536, 'x'))->output, std::string(65536, 'x'));
  EXPECT_THAT(feed(std::string(70000, 'x')).error().text, HasSubstr("longer than a pipe holds"));
}

TEST(process, passes_arguments_without_a_shell) {
  auto ended = run({"printf", "[%s]", "a b", "$HOME; exit 1", ""}, {}, long_enough);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->output, "[a b][$HOME; exit 1][]");
}

TEST(process, counts_signals_from_128) {
  auto ended = shell("kill -TERM $$");
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->status, 128 + SIGTERM);
}

/// The limits that the daemon takes for itself, for as long as this object lives.
class limits_of_the_daemon {
public:
  limits_of_the_daemon() {
    ::getrlimit(RLIMIT_NOFILE, &descriptors_);
    auto less = rlimit{.rlim_cur = 300, .rlim_max = descriptors_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &less);
    std::getline(std::ifstream{"/proc/self/oom_score_adj"}, kill_order);
    take_own_limits();
  }
  limits_of_the_daemon(const limits_of_the_daemon&) = delete;
  limits_of_the_daemon& operator=(const limits_of_the_daemon&) = delete;
  ~limits_of_the_daemon() {
    ::setrlimit(RLIMIT_NOFILE, &descriptors_);
    std::ofstream{"/proc/self/oom_score_adj"} << kill_order;
  }

  std::string kill_order; ///< as it was before

private:
  rlimit descriptors_{};
};

TEST(process, begins_with_none_of_the_limits_of_the_daemon) {
  auto taken = limits_of_the_daemon{};
  auto mine = rlimit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &mine), 0);
  ASSERT_NE(mine.rlim_cur, 300U);
  auto one = cpu_set_t{}; // the child runs its program before the parent goes on
  auto before = cpu_set_t{};
  ::sched_getaffinity(0, sizeof before, &before);
  CPU_SET(::sched_getcpu(), &one);
  ::sched_setaffinity(0, sizeof one, &one);
  auto said = std::set<std::string>{};
  for (auto i = 0; i < 1000; ++i)
    if (auto ended = run({QVMD_BINARY_DIR "/bin/qvmd-hasty"}, {}, long_enough))
      said.insert(ended->output);
  ::sched_setaffinity(0, sizeof before, &before);
  EXPECT_THAT(said, testing::ElementsAre(taken.kill_order + "\n300\n"));
}

TEST(process, is_looked_for_on_the_path_and_starts_apart) {
  auto said = run({"sh", "-c", "ls /proc/self/fd | wc -l; grep -c 'SigBlk:.0*$' /proc/self/status"},
                  {}, long_enough);
  ASSERT_TRUE(said) << said.error().text;
  EXPECT_EQ(said->output, "4\n1\n"); // the fourth is that of ls
  EXPECT_THAT(run({"no-such-program"}, {}, long_enough).error().text, HasSubstr("No such file"));
  EXPECT_THAT(run({"/etc/passwd"}, {}, long_enough).error().text, HasSubstr("Permission denied"));
}

TEST(process, says_which_program_is_missing) {
  auto ended = run({"/nonexistent/tool"}, {}, long_enough);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, errc::general);
  EXPECT_EQ(ended.error().text, "cannot run '/nonexistent/tool': No such file or directory");
  EXPECT_EQ(run({}, {}, long_enough).error().code, errc::internal);
}

TEST(process, keeps_a_long_report_apart_from_what_is_said_about_it) {
  auto ended =
      run({"/bin/sh", "-c", "echo warning >&2; head -c 300000 /dev/zero | tr '\\0' x; exit 7"}, {},
          long_enough, outputs::apart);
  ASSERT_TRUE(ended) << ended.error().text;
  EXPECT_EQ(ended->status, 7);
  EXPECT_EQ(ended->output, std::string(300000, 'x'));
  EXPECT_EQ(ended->errors, "warning\n");
}

TEST(process, cuts_long_output_and_lets_the_program_finish) {
  auto ended = shell("head -c 300000 /dev/zero | tr '\\0' x; exit 7");
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->status, 7);
  EXPECT_EQ(ended->output, std::string(65536, 'x'));
}

TEST(process, kills_the_whole_group_at_the_limit) {
  auto directory = tests::temp_directory{};
  // A FIFO cannot be opened for writing without a reader: so the grandchild's end shows there.
  ASSERT_EQ(::mkfifo((directory / "alive").c_str(), 0600), 0);
  auto reader = ::open((directory / "alive").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  auto start = std::chrono::steady_clock::now();
  auto ended = shell("sleep 100 > " + directory / "alive" + " & sleep 100", 200ms);
  auto took = std::chrono::steady_clock::now() - start;
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, errc::timed_out);
  EXPECT_THAT(ended.error().text, HasSubstr("'/bin/sh' did not end within 0.2 s"));
  EXPECT_GE(took, 200ms);
  EXPECT_LT(took, 20s);
  ::fcntl(reader, F_SETFL, 0);
  auto byte = char{};
  EXPECT_EQ(::read(reader, &byte, 1), 0); // waits for the last writer's end
  ::close(reader);
}

TEST(process, kills_the_whole_group_when_it_is_told_to_stop) {
  auto directory = tests::temp_directory{};
  ASSERT_EQ(::mkfifo((directory / "alive").c_str(), 0600), 0);
  auto reader = ::open((directory / "alive").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  ::fcntl(reader, F_SETFL, 0);
  auto stop = std::stop_source{};
  auto teller = std::thread{[&] {
    auto byte = char{};
    while (::read(reader, &byte, 1) == 0) // until the grandchild says that it is there
      std::this_thread::yield();
    stop.request_stop();
    EXPECT_EQ(::read(reader, &byte, 1), 0); // waits for the last writer's end
  }};
  auto ended =
      run({"/bin/sh", "-c",
           "trap '' TERM; (echo -n x; exec sleep 100) > " + directory / "alive" + " & sleep 100"},
          {}, long_enough, outputs::together, {.stop = stop.get_token()});
  teller.join();
  ::close(reader);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().text, "'/bin/sh' was broken off");
}

TEST(process, is_looked_at_while_it_runs) {
  auto directory = tests::temp_directory{};
  ASSERT_EQ(::mkfifo((directory / "go").c_str(), 0600), 0);
  auto seen = pid_t{0};
  auto look = [&](pid_t x) {
    if (std::exchange(seen, x) == 0)
      ::close(::open((directory / "go").c_str(), O_WRONLY | O_CLOEXEC)); // lets the child end
  };
  auto ended = run({"/bin/sh", "-c", "read x < " + directory / "go" + "; echo $$"}, {}, long_enough,
                   outputs::together, {.look = look});
  ASSERT_TRUE(ended) << ended.error().text;
  EXPECT_EQ(ended->output, std::to_string(seen) + "\n");
}

TEST(process, kills_a_program_that_never_stops_talking) {
  auto ended = run({"yes"}, {}, 200ms);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, errc::timed_out);
}

TEST(process, ends_with_the_program_though_a_child_keeps_the_output) {
  auto start = std::chrono::steady_clock::now();
  auto ended = shell("sleep 20 & echo $!; exit 0");
  ASSERT_TRUE(ended);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 15s);
  auto left_behind = std::stoi(ended->output);
  EXPECT_EQ(::kill(left_behind, SIGKILL), 0); // the child was left alone
}

TEST(process, starts_with_a_clean_environment) {
  ::setenv("NOTIFY_SOCKET", "/run/x", 1);
  ::setenv("LISTEN_FDS", "1", 1);
  ::setenv("QVMD_TEST_KEPT", "kept", 1);
  ::setenv("QVMD_TEST_CHANGED", "before", 1);
  auto ended = run({"env"}, {"QVMD_TEST_CHANGED=after", "QVMD_TEST_NEW=a=b"}, long_enough);
  for (const auto* x : {"NOTIFY_SOCKET", "LISTEN_FDS", "QVMD_TEST_KEPT", "QVMD_TEST_CHANGED"})
    ::unsetenv(x);
  ASSERT_TRUE(ended);
  EXPECT_THAT(ended->output, Not(HasSubstr("NOTIFY_SOCKET")));
  EXPECT_THAT(ended->output, Not(HasSubstr("LISTEN_FDS")));
  EXPECT_THAT(ended->output, HasSubstr("QVMD_TEST_KEPT=kept\n"));
  EXPECT_THAT(ended->output, HasSubstr("QVMD_TEST_CHANGED=after\n"));
  EXPECT_THAT(ended->output, Not(HasSubstr("before")));
  EXPECT_THAT(ended->output, HasSubstr("QVMD_TEST_NEW=a=b\n"));
}

TEST(process, hands_down_no_descriptor_and_reads_nothing) {
  auto leak = ::open("/dev/null", O_RDONLY); // not close-on-exec on purpose
  ASSERT_GE(leak, 0);
  auto ended = shell("cat; ls /proc/self/fd | wc -l");
  ::close(leak);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->output, "4\n"); // 0, 1, 2 and the listed directory itself
}

TEST(process, has_no_signal_blocked_or_ignored) {
  auto all = sigset_t{};
  auto before = sigset_t{};
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  auto* handler = ::signal(SIGPIPE, SIG_IGN);
  auto ended = shell("sed -nE 's/^Sig(Blk|Ign):\\t//p' /proc/self/status");
  ::signal(SIGPIPE, handler);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(ended);
  auto lines = std::istringstream{ended->output};
  auto blocked = std::uint64_t{};
  auto ignored = std::uint64_t{};
  ASSERT_TRUE(lines >> std::hex >> blocked >> ignored) << ended->output;
  constexpr auto standard = (std::uint64_t{1} << 31) - 1; // the C library minds two beyond
  EXPECT_EQ(blocked, 0U);
  EXPECT_EQ(ignored & standard, 0U);
}

TEST(process, runs_in_many_threads_at_once) {
  auto right = std::atomic<int>{0};
  auto threads = std::vector<std::thread>{};
  for (auto i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      for (auto pass = 0; pass < 5; ++pass) {
        auto ended = shell("echo " + std::to_string(i));
        right += ended && ended->output == std::to_string(i) + "\n";
      }
    });
  for (auto& x : threads)
    x.join();
  EXPECT_EQ(right, 40);
}

} // namespace
} // namespace qubes::drivers
