#include "drivers/io/lanes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <condition_variable>
#include <csignal>
#include <future>
#include <latch>
#include <map>
#include <mutex>
#include <set>
#include <thread>

using namespace std::chrono_literals;
using qubes::drivers::lane;
using qubes::drivers::lanes;

namespace {

constexpr auto soon = 20s;

/// A gate that holds jobs until the test opens it.
class gate {
public:
  void open() { opened_.count_down(); }
  void pass() { opened_.wait(); }

private:
  std::latch opened_{1};
};

/// Threads that did work, as the jobs saw them.
class census {
public:
  void count() {
    auto lock = std::lock_guard{mutex_};
    ids_.insert(std::this_thread::get_id());
  }
  std::size_t size() {
    auto lock = std::lock_guard{mutex_};
    return ids_.size();
  }

private:
  std::mutex mutex_;
  std::set<std::thread::id> ids_;
};

void finish(lanes& pool) {
  while (pool.pending() != 0)
    std::this_thread::yield();
}

TEST(lanes, a_job_that_throws_costs_itself_alone) {
  auto done = std::promise<void>{};
  auto pool = lanes{{.guest = 1}};
  ASSERT_TRUE(pool.post(lane::guest, "work", [] { throw std::bad_alloc{}; }));
  ASSERT_TRUE(pool.post(lane::guest, "work", [&] { done.set_value(); }));
  EXPECT_EQ(done.get_future().wait_for(soon), std::future_status::ready);
}

TEST(lanes, a_frozen_key_delays_no_other_key) {
  auto frozen = gate{};
  auto answered = std::promise<void>{};
  auto started = std::promise<void>{};
  auto pool = lanes{{.guest = 2}};
  pool.post(lane::guest, "frozen", [&] {
    started.set_value();
    frozen.pass();
  });
  for (auto i = 0; i < 50; ++i)
    pool.post(lane::guest, "frozen", [&] { frozen.pass(); });
  EXPECT_EQ(started.get_future().wait_for(soon), std::future_status::ready);
  pool.post(lane::guest, "work", [&] { answered.set_value(); });
  EXPECT_EQ(answered.get_future().wait_for(soon), std::future_status::ready);
  EXPECT_GE(pool.pending(), 51U);
  frozen.open();
}

TEST(lanes, rescue_is_free_while_every_guest_thread_is_stuck) {
  auto frozen = gate{};
  auto rescued = std::promise<void>{};
  auto pool = lanes{{.guest = 4}};
  for (auto i = 0; i < 20; ++i)
    pool.post(lane::guest, "vm" + std::to_string(i), [&] { frozen.pass(); });
  pool.post(lane::rescue, "vm0", [&] { rescued.set_value(); });
  EXPECT_EQ(rescued.get_future().wait_for(soon), std::future_status::ready);
  frozen.open();
}

TEST(lanes, jobs_of_one_key_run_in_order_and_one_at_a_time_under_load) {
  constexpr auto posters = std::size_t{4};
  constexpr auto keys_each = std::size_t{5};
  constexpr auto jobs = 400;
  struct record {
    std::atomic<int> inside{0};
    int next = 0; // guarded by the order that is tested: a race here is what TSan would find
    bool wrong = false;
  };
  auto records = std::array<record, posters * keys_each>{};
  {
    auto pool = lanes{{.guest = 8}};
    auto threads = std::vector<std::thread>{};
    for (auto p = std::size_t{0}; p < posters; ++p)
      threads.emplace_back([&records, &pool, p] {
        for (auto i = 0; i < jobs; ++i)
          for (auto k = std::size_t{0}; k < keys_each; ++k) {
            auto index = p * keys_each + k;
            pool.post(lane::guest, "vm" + std::to_string(index), [&r = records[index], i] {
              if (r.inside.exchange(1, std::memory_order_relaxed) != 0 || r.next != i)
                r.wrong = true;
              ++r.next;
              r.inside.store(0, std::memory_order_relaxed);
            });
          }
      });
    for (auto& x : threads)
      x.join();
  }
  for (auto& r : records) {
    EXPECT_FALSE(r.wrong);
    EXPECT_EQ(r.next, jobs);
  }
}

TEST(lanes, a_busy_key_gives_way_to_others_after_each_job) {
  auto order = std::vector<std::string>{};
  {
    auto held = gate{};
    auto pool = lanes{{.guest = 1}};
    pool.post(lane::guest, "first", [&] { held.pass(); });
    for (auto i = 0; i < 3; ++i)
      pool.post(lane::guest, "busy", [&] { order.emplace_back("busy"); });
    pool.post(lane::guest, "work", [&] { order.emplace_back("work"); });
    held.open();
  }
  EXPECT_THAT(order, testing::ElementsAre("busy", "work", "busy", "busy"));
}

TEST(lanes, jobs_without_a_key_run_side_by_side) {
  auto together = std::latch{3};
  auto pool = lanes{{.host = 3}};
  for (auto i = 0; i < 3; ++i)
    pool.post(lane::host, "", [&] { together.arrive_and_wait(); });
  finish(pool); // would never end if they waited for each other
}

TEST(lanes, threads_start_only_when_there_is_work_for_them) {
  auto seen = census{};
  auto pool = lanes{{.guest = 64}};
  for (auto i = 0; i < 30; ++i) {
    pool.post(lane::guest, "vm" + std::to_string(i), [&] { seen.count(); });
    finish(pool);
  }
  EXPECT_EQ(seen.size(), 1U);
}

TEST(lanes, no_more_threads_than_the_width) {
  auto seen = census{};
  auto all = std::latch{5};
  {
    auto pool = lanes{{.guest = 5}};
    for (auto i = 0; i < 5; ++i)
      pool.post(lane::guest, "", [&] { all.arrive_and_wait(); });
    for (auto i = 0; i < 500; ++i)
      pool.post(lane::guest, "", [&] { seen.count(); });
  }
  EXPECT_LE(seen.size(), 5U);
}

TEST(lanes, idle_threads_end_but_for_a_few) {
  // A thread shows its end through the destructor of a thread_local.
  struct tally {
    std::mutex mutex;
    std::condition_variable changed;
    int living = 0;
  };
  static auto counted = tally{};
  struct life {
    life() {
      auto lock = std::lock_guard{counted.mutex};
      ++counted.living;
    }
    ~life() {
      auto lock = std::lock_guard{counted.mutex};
      --counted.living;
      counted.changed.notify_all();
    }
    void touch() {}
  };
  auto all = std::latch{20};
  auto work = [&] {
    thread_local auto mine = life{};
    mine.touch();
    all.arrive_and_wait();
  };
  auto pool = lanes{{.guest = 20, .keep = 2, .patience = 20ms}};
  for (auto i = 0; i < 20; ++i)
    pool.post(lane::guest, "", work);
  auto lock = std::unique_lock{counted.mutex};
  EXPECT_TRUE(counted.changed.wait_for(lock, soon, [] { return counted.living == 2; }))
      << counted.living << " threads live";
  lock.unlock();
  // The pool still works after the threads have ended.
  auto answered = std::promise<void>{};
  pool.post(lane::guest, "work", [&] { answered.set_value(); });
  EXPECT_EQ(answered.get_future().wait_for(soon), std::future_status::ready);
}

TEST(lanes, work_is_done_even_when_it_meets_a_leaving_thread) {
  auto pool = lanes{{.disk = 1, .keep = 0, .patience = 0ms}};
  for (auto i = 0; i < 2000; ++i) {
    auto done = std::promise<void>{};
    pool.post(lane::disk, "k", [&] { done.set_value(); });
    ASSERT_EQ(done.get_future().wait_for(soon), std::future_status::ready) << i;
  }
}

TEST(lanes, pending_counts_what_is_posted_and_not_finished) {
  auto held = gate{};
  auto pool = lanes{{}};
  EXPECT_EQ(pool.pending(), 0U);
  pool.post(lane::disk, "", [&] { held.pass(); });
  pool.post(lane::disk, "", [] {});
  pool.post(lane::guest, "a", [&] { held.pass(); });
  EXPECT_EQ(pool.pending(), 3U);
  held.open();
  finish(pool);
  EXPECT_EQ(pool.pending(), 0U);
}

TEST(lanes, a_lane_can_be_waited_for_without_the_others) {
  auto held = gate{};
  auto pool = lanes{{}};
  pool.post(lane::guest, "a", [&] { held.pass(); });
  pool.post(lane::storage, "b", [] {});
  EXPECT_TRUE(pool.finish(lane::storage, soon));
  EXPECT_FALSE(pool.finish(lane::guest, 1ms));
  held.open();
  EXPECT_TRUE(pool.finish(lane::guest, soon));
}

TEST(lanes, destructor_finishes_everything_also_what_jobs_post_to_other_lanes) {
  auto done = std::atomic<int>{0};
  {
    auto pool = lanes{{.host = 1, .guest = 2}};
    for (auto i = 0; i < 100; ++i)
      pool.post(lane::disk, "", [&] {
        pool.post(lane::guest, "a", [&] { pool.post(lane::host, "b", [&] { ++done; }); });
      });
  }
  EXPECT_EQ(done, 100);
}

TEST(lanes, no_signal_lands_on_their_threads) {
  auto open_signals = std::promise<int>{};
  auto pool = lanes{{}};
  pool.post(lane::host, "", [&] {
    auto mask = sigset_t{};
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    auto open = 0;
    for (auto x : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1, SIGPIPE})
      open += sigismember(&mask, x) == 0 ? 1 : 0;
    open_signals.set_value(open);
  });
  EXPECT_EQ(open_signals.get_future().get(), 0);
  auto mine = sigset_t{};
  pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  EXPECT_EQ(sigismember(&mine, SIGTERM), 0); // the posting thread keeps its mask
}

} // namespace
