#include "drivers/guest/guest_tools.hpp"
#include "drivers/guest/qubesdb_watches.hpp"
#include "tests/drivers/qubesdb_stub.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>

#include <condition_variable>
#include <sys/stat.h>

namespace qubes::drivers {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using tests::qubesdb_stub;

/// Collects what watches report, and waits for a report.
struct watches : testing::Test {
  tests::temp_directory directory;
  std::mutex mutex;
  std::condition_variable came;
  std::vector<std::string> heard;
  qubesdb_listener listener{
      .changed = [this](const std::string& name, const std::string& path) { hear(name + path); },
      .ended = [this](const std::string& name) { hear(name + " ended"); }};

  void hear(std::string what) {
    auto lock = std::lock_guard{mutex};
    heard.push_back(std::move(what));
    came.notify_all();
  }

  std::string path(const std::string& name) { return directory / ("qubesdb." + name + ".sock"); }

  std::vector<std::string> wait_for(std::size_t count) {
    auto lock = std::unique_lock{mutex};
    came.wait_for(lock, 20s, [&] { return heard.size() >= count; });
    return std::exchange(heard, {});
  }

  /// Until the thread has seen that a daemon hung up.
  static bool ends_with(const qubesdb_watches& x, std::size_t left) {
    for (auto end = std::chrono::steady_clock::now() + 20s; x.size() != left;) {
      if (std::chrono::steady_clock::now() > end)
        return false;
      std::this_thread::yield();
    }
    return true;
  }
};

TEST_F(watches, report_the_domain_whose_entry_changed) {
  auto work = qubesdb_stub{path("work")};
  auto vault = qubesdb_stub{path("vault")};
  auto all = qubesdb_watches{listener};
  ASSERT_TRUE(all.watch("work", path("work"), {"/a"}, 20s));
  ASSERT_TRUE(all.watch("vault", path("vault"), {"/b"}, 20s));
  EXPECT_THAT(work.asked(), ElementsAre("/a"));
  work.fire("/a");
  EXPECT_THAT(wait_for(1), ElementsAre("work/a"));
  vault.fire("/b");
  vault.fire("/b");
  EXPECT_THAT(wait_for(2), ElementsAre("vault/b", "vault/b"));
}

TEST_F(watches, are_of_many_entries_of_one_domain) {
  auto work = qubesdb_stub{path("work")};
  auto all = qubesdb_watches{listener};
  ASSERT_TRUE(all.watch("work", path("work"), {"/a", "/b", "/c"}, 20s));
  EXPECT_EQ(all.size(), 1U) << "connections";
  for (auto entry : {"/a", "/b", "/c"}) {
    work.touch(entry);
    EXPECT_THAT(wait_for(1), ElementsAre(std::string{"work"} + entry));
  }
}

TEST_F(watches, end_with_their_domain_and_with_their_daemon) {
  auto all = qubesdb_watches{listener};
  auto work = qubesdb_stub{path("work")};
  ASSERT_TRUE(all.watch("work", path("work"), {"/a"}, 20s));
  all.remove("work");
  EXPECT_EQ(all.size(), 0U);
  {
    auto vault = qubesdb_stub{path("vault")};
    ASSERT_TRUE(all.watch("vault", path("vault"), {"/b"}, 20s));
    EXPECT_EQ(all.size(), 1U);
  }
  EXPECT_THAT(wait_for(1), ElementsAre("vault ended")) << "nobody took work's away";
  EXPECT_TRUE(ends_with(all, 0));
}

TEST_F(watches, put_partial_messages_together_and_leave_a_daemon_that_sends_nonsense) {
  auto work = qubesdb_stub{path("work")};
  auto all = qubesdb_watches{listener};
  ASSERT_TRUE(all.watch("work", path("work"), {"/a"}, 20s));
  auto message = tests::qubesdb_frame{13, "/a", ""}.bytes();
  work.say(message.substr(0, 30));
  work.say(message.substr(30) + message);
  EXPECT_THAT(wait_for(2), ElementsAre("work/a", "work/a"));
  work.say(std::string(72, '\xff')); // announces a value of 4 GiB
  EXPECT_TRUE(ends_with(all, 0));
}

TEST_F(watches, are_refused_without_a_daemon) {
  auto all = qubesdb_watches{listener};
  auto refused = all.watch("work", path("work"), {"/a"}, 20s);
  ASSERT_FALSE(refused);
  EXPECT_EQ(all.size(), 0U);
}

TEST_F(watches, begin_and_end_with_the_tools_of_a_guest) {
  auto options = guest_tools_options{};
  options.run_directory = directory.str();
  options.qubesdb_daemon = "/bin/true";
  auto tools = open_guest_tools(options);
  auto work = qubesdb_stub{path("work")};
  ASSERT_TRUE(tools->watch_qubesdb("work", {"/a"})) << "nobody listens yet";
  tools->listen(listener);
  ASSERT_TRUE(tools->watch_qubesdb("work", {"/a"}));
  work.fire("/a");
  EXPECT_THAT(wait_for(1), ElementsAre("work/a"));
  tools->close("work");
}

TEST_F(watches, of_a_guest_are_all_that_were_asked_for_last) {
  auto options = guest_tools_options{};
  options.run_directory = directory.str();
  options.qubesdb_daemon = "/bin/true";
  auto tools = open_guest_tools(options);
  tools->listen(listener);
  auto work = qubesdb_stub{path("work")};
  ASSERT_TRUE(tools->watch_qubesdb("work", {"/a", "/b"}));
  work.touch("/a");
  work.touch("/b");
  EXPECT_THAT(wait_for(2), ElementsAre("work/a", "work/b"));
  tools->close("work");
}

TEST_F(watches, of_a_guest_outlive_their_listener) {
  auto options = guest_tools_options{};
  options.run_directory = directory.str();
  options.qubesdb_daemon = "/bin/true";
  auto tools = open_guest_tools(options);
  tools->listen({.changed = [](auto&, auto&) { ADD_FAILURE() << "it is gone"; },
                 .ended = [](auto&) { ADD_FAILURE() << "it is gone"; }});
  auto work = qubesdb_stub{path("work")};
  ASSERT_TRUE(tools->watch_qubesdb("work", {"/a"}));
  tools->listen(listener);
  work.touch("/a");
  EXPECT_THAT(wait_for(1), ElementsAre("work/a"));
  tools->close("work");
}

TEST_F(watches, leave_marks_of_services_to_programs_in_dom0) {
  auto options = guest_tools_options{};
  options.services = directory / "services";
  auto tools = open_guest_tools(options);
  auto there = [&](const std::string& name) {
    struct ::stat facts {};
    return ::stat((options.services + '/' + name).c_str(), &facts) == 0;
  };
  EXPECT_TRUE(tools->mark_service("clocksync", false)) << "never there";
  ASSERT_TRUE(tools->mark_service("clocksync", true));
  EXPECT_TRUE(there("clocksync"));
  ASSERT_TRUE(tools->mark_service("clocksync", true)) << "again";
  ASSERT_TRUE(tools->mark_service("clocksync", false));
  EXPECT_FALSE(there("clocksync"));
  options.services = "/proc/nowhere";
  EXPECT_FALSE(open_guest_tools(options)->mark_service("x", true));
}

} // namespace
} // namespace qubes::drivers
