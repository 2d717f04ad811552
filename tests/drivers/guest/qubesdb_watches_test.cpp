#include "drivers/guest/guest_tools.hpp"
#include "drivers/guest/qubesdb_watches.hpp"
#include "tests/drivers/qubesdb_stub.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>

#include <sys/stat.h>

#include <algorithm>
#include <condition_variable>
#include <iterator>

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
  std::uint64_t held = 0;
  qubesdb_listener listener{
      .changed = [this](const std::string& name, const std::string& path,
                        std::uint64_t held_back) { hear(name + path, held_back); },
      .ended = [this](const std::string& name) { hear(name + " ended"); }};

  void hear(std::string what, std::uint64_t held_back = 0) {
    auto lock = std::lock_guard{mutex};
    held += held_back;
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

/// Of work the entry /a is watched, of vault /b.
struct two_watched {
  two_watched(watches& in, const qubesdb_listener& heard, unsigned most)
      : work{in.path("work")}, vault{in.path("vault")}, all{heard, most} {
    EXPECT_TRUE(all.watch("work", in.path("work"), {"/a"}, 20s));
    EXPECT_TRUE(all.watch("vault", in.path("vault"), {"/b"}, 20s));
  }

  qubesdb_stub work;
  qubesdb_stub vault;
  qubesdb_watches all;
};

TEST_F(watches, report_the_domain_whose_entry_changed) {
  auto [work, vault, all] = two_watched{*this, listener, 20};
  EXPECT_THAT(work.asked(), ElementsAre("/a"));
  work.fire("/a");
  EXPECT_THAT(wait_for(1), ElementsAre("work/a"));
  vault.fire("/b");
  vault.fire("/b");
  EXPECT_THAT(wait_for(2), ElementsAre("vault/b", "vault/b"));
}

/// So many at once as a second has; more are told together, and the last of them is not lost.
TEST_F(watches, of_a_domain_that_floods_are_told_together) {
  auto [work, vault, all] = two_watched{*this, listener, 4};
  for (auto i = 0; i < 1000; ++i)
    work.fire("/a");
  vault.fire("/b");
  auto told = std::vector<std::string>{};
  auto sum = [&] {
    auto lock = std::lock_guard{mutex};
    return told.size() + held;
  };
  while (std::ranges::count(told, "vault/b") < 1 || sum() < 1001) {
    auto more = wait_for(1);
    ASSERT_FALSE(more.empty()) << told.size() << " were told, " << sum() << " counted";
    std::ranges::move(more, std::back_inserter(told));
  }
  EXPECT_EQ(sum(), 1001U) << "each is told, or counted";
  EXPECT_GE(told.size(), 6U) << "four, another one later, and vault's";
  EXPECT_LT(told.size(), 500U);
}

TEST_F(watches, of_other_entries_are_not_told) {
  auto work = qubesdb_stub{path("work")};
  auto all = qubesdb_watches{listener, 20};
  ASSERT_TRUE(all.watch("work", path("work"), {"/a"}, 20s));
  work.fire("/other");
  work.fire("/a");
  EXPECT_THAT(wait_for(1), ElementsAre("work/a"));
}

TEST_F(watches, of_one_domain_end_when_its_news_cannot_be_taken) {
  auto picky = listener;
  picky.changed = [this](const std::string& name, const std::string& what, std::uint64_t) {
    if (name == "work")
      throw std::bad_alloc{};
    hear(name + what);
  };
  auto [work, vault, all] = two_watched{*this, picky, 20};
  work.fire("/a");
  EXPECT_THAT(wait_for(1), ElementsAre("work ended"));
  vault.fire("/b");
  EXPECT_THAT(wait_for(1), ElementsAre("vault/b"));
}

TEST_F(watches, are_of_many_entries_of_one_domain) {
  auto work = qubesdb_stub{path("work")};
  auto all = qubesdb_watches{listener, 20};
  ASSERT_TRUE(all.watch("work", path("work"), {"/a", "/b", "/c"}, 20s));
  EXPECT_EQ(all.size(), 1U) << "connections";
  for (auto entry : {"/a", "/b", "/c"}) {
    work.touch(entry);
    EXPECT_THAT(wait_for(1), ElementsAre(std::string{"work"} + entry));
  }
}

TEST_F(watches, end_with_their_domain_and_with_their_daemon) {
  auto all = qubesdb_watches{listener, 20};
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
  auto all = qubesdb_watches{listener, 20};
  ASSERT_TRUE(all.watch("work", path("work"), {"/a"}, 20s));
  auto message = tests::qubesdb_frame{13, "/a", ""}.bytes();
  work.say(message.substr(0, 30));
  work.say(message.substr(30) + message);
  EXPECT_THAT(wait_for(2), ElementsAre("work/a", "work/a"));
  work.say(std::string(72, '\xff')); // announces a value of 4 GiB
  EXPECT_TRUE(ends_with(all, 0));
}

TEST_F(watches, are_refused_without_a_daemon) {
  auto all = qubesdb_watches{listener, 20};
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
  tools->listen({.changed = [](auto&, auto&, auto) { ADD_FAILURE() << "it is gone"; },
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
