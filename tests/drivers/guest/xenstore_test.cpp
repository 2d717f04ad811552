// One suite for the real XenStore and the fake: the real XenStore keeps all that the fake promises.
#include "drivers/guest/xenstore.hpp"

#include "tests/drivers/private_daemon.hpp"
#include "tests/fakes/fake_xenstore.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <future>
#include <latch>
#include <mutex>
#include <optional>
#include <thread>

using namespace qubes;
using namespace qubes::drivers;
using namespace std::chrono_literals;
using model::errc;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

constexpr auto soon = 20s;
constexpr auto program = "/usr/lib/xen-4.17/bin/xenstored";
constexpr auto stand_in = QVMD_BINARY_DIR "/lib/fakexen.so";

enum class kind { fake, real };

/// Remembers what a watch reports, from whichever thread.
class watch_recorder {
public:
  std::function<void(const std::string&)> listen() {
    return [this](const std::string& path) {
      auto lock = std::lock_guard{mutex_};
      heard_.push_back(path);
      changed_.notify_all();
    };
  }

  /// The paths that the watch reported, once `path` is the last of them.
  std::vector<std::string> until(const std::string& path) {
    auto lock = std::unique_lock{mutex_};
    EXPECT_TRUE(
        changed_.wait_for(lock, soon, [&] { return !heard_.empty() && heard_.back() == path; }))
        << path << " was never told";
    return std::exchange(heard_, {});
  }

  std::vector<std::string> so_far() {
    auto lock = std::lock_guard{mutex_};
    return heard_;
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> heard_;
};

class xenstore_semantics : public testing::TestWithParam<kind> {
protected:
  void SetUp() override {
    if (GetParam() == kind::real)
      start_real();
    if (!IsSkipped() && !HasFatalFailure())
      store = open();
  }

  void start_real() {
    if (!std::filesystem::exists(program))
      GTEST_SKIP() << "xenstored is not installed (" << program << ")";
    if (!std::filesystem::exists(stand_in))
      GTEST_SKIP() << "the stand-in for the hypervisor is not built (" << stand_in << ")";
    ::setenv("XENSTORED_PATH", (directory / "socket").c_str(), 1); // where libxenstore looks
    std::filesystem::create_directory(directory / "doms");
    for (auto living : {"doms/4", "doms/7", "doms/9"}) // only these domains may own entries
      std::ofstream{directory / living};
    daemon.emplace(std::vector<std::string>{program, "-N", "-F", directory / "pid"},
                   std::vector<std::string>{"XENSTORED_RUNDIR=" + directory / "",
                                            "FAKEXEN_DOMS=" + directory / "doms",
                                            std::string{"LD_PRELOAD="} + stand_in},
                   directory / "log", false);
    auto limit = std::chrono::steady_clock::now() + soon;
    while (!open_xenstore())
      ASSERT_LT(std::chrono::steady_clock::now(), limit) << text_of(directory / "log");
  }

  std::unique_ptr<xenstore> open() {
    if (GetParam() == kind::fake)
      return make_fake_xenstore();
    auto x = open_xenstore();
    EXPECT_TRUE(x) << x.error().message();
    return x ? std::move(*x) : nullptr;
  }

  static std::string text_of(const std::string& file) { return tests::text_of(file); }

  tests::own_directory directory;
  std::optional<tests::private_daemon> daemon;
  std::unique_ptr<xenstore> store;
};

INSTANTIATE_TEST_SUITE_P(xenstore, xenstore_semantics, testing::Values(kind::fake, kind::real),
                         [](auto& x) { return x.param == kind::fake ? "fake" : "real"; });

TEST_P(xenstore_semantics, a_written_value_is_read_and_parents_are_made) {
  ASSERT_TRUE(store->write("/local/domain/7/name", "work"));
  EXPECT_EQ(*store->read("/local/domain/7/name"), "work");
  EXPECT_EQ(*store->read("/local/domain/7"), "");
  EXPECT_THAT(*store->list("/local/domain"), ElementsAre("7"));
}

TEST_P(xenstore_semantics, values_hold_any_byte_and_may_be_empty) {
  auto bytes = std::string{"a\0b\xff\n", 5};
  ASSERT_TRUE(store->write("/x", bytes));
  EXPECT_EQ(*store->read("/x"), bytes);
  ASSERT_TRUE(store->write("/x", ""));
  EXPECT_EQ(*store->read("/x"), "");
}

TEST_P(xenstore_semantics, a_missing_entry_is_nothing_and_no_error) {
  auto x = store->read("/nowhere/at/all");
  ASSERT_TRUE(x) << x.error().text;
  EXPECT_EQ(*x, std::nullopt);
  EXPECT_THAT(*store->list("/nowhere"), IsEmpty());
  EXPECT_TRUE(store->remove("/nowhere"));
  EXPECT_TRUE(store->remove("/nowhere/at/all"));
}

TEST_P(xenstore_semantics, permissions_of_a_missing_entry_are_an_error_that_names_it) {
  auto x = store->permissions("/nowhere");
  ASSERT_FALSE(x);
  EXPECT_EQ(x.error().code, errc::hypervisor);
  EXPECT_THAT(x.error().text, HasSubstr("/nowhere"));
  EXPECT_FALSE(store->set_permissions("/nowhere", {{.domain = 3}}));
  EXPECT_EQ(*store->read("/nowhere"), std::nullopt);
}

TEST_P(xenstore_semantics, listings_are_sorted_and_of_one_level) {
  for (auto name : {"c", "a", "b", "a/deep", "ab"})
    ASSERT_TRUE(store->write(std::string{"/top/"} + name, ""));
  ASSERT_TRUE(store->write("/topmost", ""));
  EXPECT_THAT(*store->list("/top"), ElementsAre("a", "ab", "b", "c"));
  EXPECT_THAT(*store->list("/"), testing::IsSupersetOf({"top", "topmost"}));
}

TEST_P(xenstore_semantics, removal_takes_everything_below_and_nothing_beside) {
  for (auto path : {"/vm/1/a", "/vm/1/b/c", "/vm/10/a"})
    ASSERT_TRUE(store->write(path, "x"));
  ASSERT_TRUE(store->remove("/vm/1"));
  EXPECT_EQ(*store->read("/vm/1/b/c"), std::nullopt);
  EXPECT_THAT(*store->list("/vm"), ElementsAre("10"));
}

TEST_P(xenstore_semantics, permissions_are_kept_and_inherited_by_new_entries) {
  ASSERT_TRUE(store->write("/d/7", ""));
  auto wanted = std::vector<xs_permission>{
      {.domain = 7}, {.domain = 0, .read = true}, {.domain = 9, .read = true, .write = true}};
  ASSERT_TRUE(store->set_permissions("/d/7", wanted));
  ASSERT_TRUE(store->write("/d/7/memory", "1"));
  EXPECT_EQ(*store->permissions("/d/7/memory"), wanted);
  ASSERT_TRUE(store->write("/d/7", "changed"));
  EXPECT_EQ(*store->permissions("/d/7"), wanted);
}

TEST_P(xenstore_semantics, a_value_that_is_too_long_is_refused_with_the_limit) {
  auto room = 4096 - std::string_view{"/x"}.size() - 1;
  EXPECT_TRUE(store->write("/x", std::string(room, 'a')));
  EXPECT_EQ((*store->read("/x"))->size(), room);
  auto refused = store->write("/x", std::string(room + 1, 'b'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::value);
  EXPECT_THAT(refused.error().text, HasSubstr(std::to_string(room)));
  EXPECT_EQ((*store->read("/x"))->size(), room);
}

TEST_P(xenstore_semantics, odd_paths_are_refused_before_they_go_anywhere) {
  for (auto path : {"", "relative", "/a//b", "/a/", "/a b", "/a\n", "/ä", "@releaseDomain"}) {
    EXPECT_FALSE(store->read(path)) << path;
    EXPECT_FALSE(store->write(path, "")) << path;
    EXPECT_FALSE(store->remove(path)) << path;
    EXPECT_FALSE(store->list(path)) << path;
    EXPECT_FALSE(store->permissions(path)) << path;
  }
  EXPECT_FALSE(store->read("/" + std::string(3072, 'a')));
  EXPECT_FALSE(store->remove("/"));
  EXPECT_FALSE(store->set_permissions("/", {}));
}

TEST_P(xenstore_semantics, a_transaction_is_seen_as_a_whole_or_not_at_all) {
  auto done = store->transact([&](xenstore& inside) -> outcome<void> {
    EXPECT_TRUE(inside.write("/t/a", "1"));
    EXPECT_TRUE(inside.write("/t/b", "2"));
    EXPECT_EQ(*inside.read("/t/a"), "1");
    EXPECT_THAT(*inside.list("/t"), ElementsAre("a", "b"));
    EXPECT_EQ(*store->read("/t/a"), std::nullopt) << "seen from outside before it ended";
    return {};
  });
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(*store->read("/t/b"), "2");
}

TEST_P(xenstore_semantics, a_failed_transaction_leaves_nothing_and_returns_its_error) {
  auto mine = model::error{errc::internal, "changed my mind", ""};
  auto runs = 0;
  auto done = store->transact([&](xenstore& inside) -> outcome<void> {
    ++runs;
    EXPECT_TRUE(inside.write("/t/a", "1"));
    EXPECT_TRUE(inside.remove("/tool"));
    return tl::unexpected{mine};
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error(), mine);
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(*store->read("/t/a"), std::nullopt);
}

TEST_P(xenstore_semantics, a_transaction_inside_a_transaction_is_the_same_one) {
  auto done = store->transact([&](xenstore& outer) {
    return outer.transact([&](xenstore& inner) { return inner.write("/t", "1"); });
  });
  ASSERT_TRUE(done);
  EXPECT_EQ(*store->read("/t"), "1");
}

TEST_P(xenstore_semantics, a_transaction_that_lost_the_race_runs_again) {
  ASSERT_TRUE(store->write("/counter", "0"));
  auto runs = 0;
  auto done = store->transact([&](xenstore& inside) -> outcome<void> {
    auto seen = *inside.read("/counter");
    if (++runs == 1) { // another client writes meanwhile
      EXPECT_TRUE(store->write("/counter", "10"));
    }
    return inside.write("/counter", std::to_string(std::stoi(*seen) + 1));
  });
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(*store->read("/counter"), "11");
}

TEST_P(xenstore_semantics, a_transaction_gives_up_after_sixteen_lost_races) {
  ASSERT_TRUE(store->write("/counter", "0"));
  auto runs = 0;
  auto done = store->transact([&](xenstore& inside) -> outcome<void> {
    (void)inside.read("/counter");
    EXPECT_TRUE(store->write("/counter", std::to_string(++runs)));
    return inside.write("/other", "x");
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, errc::hypervisor);
  EXPECT_EQ(runs, 16);
  EXPECT_EQ(*store->read("/other"), std::nullopt);
}

TEST_P(xenstore_semantics, transactions_that_touch_different_entries_do_not_disturb_each_other) {
  ASSERT_TRUE(store->write("/a/x", "0"));
  ASSERT_TRUE(store->write("/b/x", "0"));
  auto runs = 0;
  auto done = store->transact([&](xenstore& inside) -> outcome<void> {
    ++runs;
    (void)inside.read("/a/x");
    EXPECT_TRUE(store->write("/b/x", "1"));
    return inside.write("/a/x", "1");
  });
  ASSERT_TRUE(done);
  EXPECT_EQ(runs, 1);
}

TEST_P(xenstore_semantics, counting_from_several_threads_loses_nothing) {
  constexpr auto threads = 3;
  constexpr auto steps = 20;
  ASSERT_TRUE(store->write("/counter", "0"));
  auto counted = std::atomic<int>{0};
  auto team = std::vector<std::thread>{};
  for (auto t = 0; t < threads; ++t)
    team.emplace_back([&] {
      for (auto i = 0; i < steps; ++i) {
        auto done = store->transact([&](xenstore& inside) -> outcome<void> {
          auto seen = inside.read("/counter");
          if (!seen)
            return tl::unexpected{seen.error()};
          return inside.write("/counter", std::to_string(std::stoi(**seen) + 1));
        });
        counted += done ? 1 : 0; // a transaction that gave up changed nothing
      }
    });
  for (auto& x : team)
    x.join();
  EXPECT_EQ(*store->read("/counter"), std::to_string(counted));
  EXPECT_GT(counted, 0);
}

TEST_P(xenstore_semantics, a_watch_fires_at_once_then_for_itself_and_everything_below) {
  auto mine = watch_recorder{};
  ASSERT_TRUE(store->watch("/vm/7", "token", mine.listen()));
  EXPECT_THAT(mine.until("/vm/7"), ElementsAre("/vm/7"));
  for (auto path : {"/vm/7", "/vm/7/memory/meminfo", "/vm/70", "/vm", "/vm/7/end"})
    ASSERT_TRUE(store->write(path, "x"));
  EXPECT_THAT(mine.until("/vm/7/end"), ElementsAre("/vm/7", "/vm/7/memory/meminfo", "/vm/7/end"));
}

TEST_P(xenstore_semantics, a_watch_hears_removals_also_of_what_it_is_below) {
  auto mine = watch_recorder{};
  ASSERT_TRUE(store->write("/vm/7/a", "x"));
  ASSERT_TRUE(store->watch("/vm/7/a", "token", mine.listen()));
  mine.until("/vm/7/a");
  ASSERT_TRUE(store->remove("/vm/7"));
  EXPECT_THAT(mine.until("/vm/7/a"), ElementsAre("/vm/7/a"));
  EXPECT_EQ(*store->read("/vm/7/a"), std::nullopt);
}

TEST_P(xenstore_semantics, a_watch_hears_changed_permissions) {
  auto mine = watch_recorder{};
  ASSERT_TRUE(store->write("/a", ""));
  ASSERT_TRUE(store->watch("/a", "token", mine.listen()));
  mine.until("/a");
  ASSERT_TRUE(store->set_permissions("/a", {{.domain = 4}}));
  EXPECT_THAT(mine.until("/a"), ElementsAre("/a"));
}

TEST_P(xenstore_semantics, a_watch_hears_of_a_transaction_when_it_is_done_and_not_when_it_failed) {
  auto mine = watch_recorder{};
  ASSERT_TRUE(store->watch("/t", "token", mine.listen()));
  mine.until("/t");
  (void)store->transact([&](xenstore& inside) -> outcome<void> {
    EXPECT_TRUE(inside.write("/t/refused", "x"));
    return model::fail(errc::internal, "no");
  });
  ASSERT_TRUE(store->transact([&](xenstore& inside) { return inside.write("/t/done", "x"); }));
  EXPECT_THAT(mine.until("/t/done"), ElementsAre("/t/done"));
}

TEST_P(xenstore_semantics, watches_are_told_apart_by_path_and_token) {
  auto one = watch_recorder{};
  auto two = watch_recorder{};
  auto other = watch_recorder{};
  ASSERT_TRUE(store->watch("/a", "1", one.listen()));
  ASSERT_TRUE(store->watch("/a", "2", two.listen()));
  ASSERT_TRUE(store->watch("/b", "1", other.listen()));
  auto again = store->watch("/a", "1", other.listen());
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().text, HasSubstr("/a"));
  ASSERT_TRUE(store->write("/a/x", ""));
  EXPECT_THAT(one.until("/a/x"), ElementsAre("/a", "/a/x"));
  EXPECT_THAT(two.until("/a/x"), ElementsAre("/a", "/a/x"));
  EXPECT_THAT(other.until("/b"), ElementsAre("/b"));
}

TEST_P(xenstore_semantics, an_ended_watch_hears_nothing_more_and_can_begin_anew) {
  auto ended = watch_recorder{};
  auto fresh = watch_recorder{};
  ASSERT_TRUE(store->watch("/a", "t", ended.listen()));
  ended.until("/a");
  ASSERT_TRUE(store->unwatch("/a", "t"));
  EXPECT_FALSE(store->unwatch("/a", "t"));
  EXPECT_FALSE(store->unwatch("/a", "unknown"));
  ASSERT_TRUE(store->watch("/a", "t", fresh.listen()));
  ASSERT_TRUE(store->write("/a/x", ""));
  fresh.until("/a/x");
  EXPECT_THAT(ended.so_far(), IsEmpty());
}

TEST_P(xenstore_semantics, a_listener_may_use_the_store_and_end_its_own_watch) {
  auto seen = std::promise<std::string>{};
  auto calls = std::atomic<int>{0};
  ASSERT_TRUE(store->watch("/a", "t", [&](const std::string& path) {
    ++calls;
    if (path != "/a/x")
      return;
    auto text = store->read(path);
    EXPECT_TRUE(store->unwatch("/a", "t"));
    EXPECT_TRUE(store->write("/a/y", "")); // would come back as a third call
    seen.set_value(text->value_or("nothing"));
  }));
  ASSERT_TRUE(store->write("/a/x", "hello"));
  auto text = seen.get_future();
  ASSERT_EQ(text.wait_for(soon), std::future_status::ready);
  EXPECT_EQ(text.get(), "hello");
  auto fence = watch_recorder{};
  ASSERT_TRUE(store->watch("/fence", "t", fence.listen()));
  fence.until("/fence");
  EXPECT_EQ(calls, 2);
}

TEST_P(xenstore_semantics, a_listener_that_throws_costs_its_own_news_alone) {
  auto mine = watch_recorder{};
  ASSERT_TRUE(store->watch("/a", "1", [](const std::string&) { throw std::bad_alloc{}; }));
  ASSERT_TRUE(store->watch("/a", "2", mine.listen()));
  ASSERT_TRUE(store->write("/a/x", ""));
  EXPECT_THAT(mine.until("/a/x"), ElementsAre("/a", "/a/x"));
  EXPECT_TRUE(store->unwatch("/a", "1")) << "it runs no more";
}

TEST_P(xenstore_semantics, after_unwatch_returned_the_listener_is_not_running) {
  for (auto i = 0; i < 50; ++i) {
    auto alive = std::make_unique<std::atomic<int>>(0); // gone right after unwatch
    ASSERT_TRUE(store->watch("/a", "t", [x = alive.get()](const std::string&) { ++*x; }));
    ASSERT_TRUE(store->write("/a", ""));
    ASSERT_TRUE(store->unwatch("/a", "t"));
    alive.reset();
  }
}

TEST_P(xenstore_semantics, the_special_watches_are_accepted) {
  auto mine = watch_recorder{};
  ASSERT_TRUE(store->watch("@releaseDomain", "t", mine.listen()));
  EXPECT_THAT(mine.until("@releaseDomain"), ElementsAre("@releaseDomain"));
  EXPECT_FALSE(store->watch("relative", "t", mine.listen()));
}

TEST_P(xenstore_semantics, dropping_the_store_ends_its_watches) {
  auto calls = std::atomic<int>{0};
  ASSERT_TRUE(store->watch("/a", "t", [&](const std::string&) { ++calls; }));
  store.reset();
  auto before = calls.load();
  if (GetParam() == kind::real) {
    auto other = open();
    ASSERT_TRUE(other->write("/a", "x"));
    auto fence = watch_recorder{};
    ASSERT_TRUE(other->watch("/fence", "t", fence.listen()));
    fence.until("/fence");
  }
  EXPECT_EQ(calls, before);
}

/// Only the real XenStore has a daemon that can end.
class real_xenstore : public xenstore_semantics {};
INSTANTIATE_TEST_SUITE_P(xenstore, real_xenstore, testing::Values(kind::real),
                         [](auto&) { return "real"; });

TEST_P(real_xenstore, two_clients_see_and_disturb_each_other) {
  auto other = open();
  auto mine = watch_recorder{};
  ASSERT_TRUE(store->watch("/shared", "t", mine.listen()));
  mine.until("/shared");
  ASSERT_TRUE(other->write("/shared/x", "from there"));
  mine.until("/shared/x");
  EXPECT_EQ(*store->read("/shared/x"), "from there");
}

TEST_P(real_xenstore, a_dead_daemon_is_an_error_and_not_a_hang) {
  auto heard = watch_recorder{};
  ASSERT_TRUE(store->watch("/a", "t", heard.listen()));
  heard.until("/a");
  daemon->kill();
  auto x = store->read("/a");
  ASSERT_FALSE(x);
  EXPECT_EQ(x.error().code, errc::hypervisor);
  EXPECT_FALSE(store->write("/a", ""));
  EXPECT_FALSE(store->transact([](xenstore& inside) { return inside.write("/a", ""); }));
  auto again = open_xenstore();
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().text, HasSubstr("xenstored"));
}

} // namespace
