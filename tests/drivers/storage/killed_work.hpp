// Work on a volume that is cut short at each of its commands, by a kill or a failure, and the state
// that must be there after that. For pools whose tool is in memory.
#pragma once

#include "tests/drivers/storage/fake_tool.hpp"
#include "tests/drivers/storage/pool_fixture.hpp"

#include <gmock/gmock.h>

#include <functional>

namespace qubes::tests {

/// Work to be cut short. `Attempt` is a host of its own, whose tool goes on when the daemon dies:
/// it has `pool`, the volume `mine`, tool(), restart(), committed(volume), and
/// expect_rest(operation).
template <class Attempt>
struct operation {
  std::string name;
  std::function<void(Attempt&)> prepare;
  std::function<model::outcome<void>(Attempt&)> work;
  std::vector<std::string> states;    ///< that may be committed after a kill and the next stop
  std::vector<std::string> revisions; ///< that must be there after every kill
};

template <class Attempt>
using operations_on = std::vector<operation<Attempt>>;

/// Whether the daemon died before the work was done.
template <class Attempt, class Work>
bool dies(Attempt& x, std::size_t before, Work work) {
  x.tool().told();
  x.tool().kill_before = before;
  auto died = false;
  try {
    EXPECT_EQ(why(work()), "");
  } catch (const killed&) {
    died = true;
  }
  x.tool().kill_before.reset();
  x.restart();
  return died;
}

/// Calls `check` on the state that each kill left, and on the state without a kill; how many kills
/// there were.
template <class Attempt, class Check>
int killed_at_each_command(const operations_on<Attempt>& all, Check check) {
  auto kills = 0;
  for (auto& op : all)
    for (auto before = std::size_t{0};; ++before) {
      auto x = Attempt{};
      op.prepare(x);
      auto died = dies(x, before, [&] { return op.work(x); });
      auto trace = testing::ScopedTrace(
          __FILE__, __LINE__,
          fmt::format("{}, killed after:\n{}", op.name, fmt::join(x.tool().said, "\n")));
      check(x, op);
      if (!died)
        break;
      ++kills;
    }
  return kills;
}

/// The next daemon's stop removes what a kill left.
template <class Attempt>
int rest_after_kills(const operations_on<Attempt>& all) {
  return killed_at_each_command(all, [](Attempt& x, const operation<Attempt>& op) {
    EXPECT_THAT(x.committed(x.mine), // readable before the stop, too
                testing::AnyOf("old", "new", "one", "two", testing::HasSubstr("in place")));
    ASSERT_EQ(why(x.pool->stop(x.mine)), "");
    x.expect_rest(op);
    ASSERT_EQ(why(x.pool->verify(x.mine)), "");
    ASSERT_EQ(why(x.pool->start(x.mine)), "");
  });
}

/// A start without a stop before removes what a kill left as well.
template <class Attempt>
int starts_after_kills(const operations_on<Attempt>& all) {
  return killed_at_each_command(all, [](Attempt& x, const operation<Attempt>& op) {
    ASSERT_EQ(why(x.pool->start(x.mine)), "");
    ASSERT_EQ(why(x.pool->stop(x.mine)), "");
    EXPECT_THAT(op.states, testing::Contains(x.committed(x.mine)));
  });
}

/// The stop that removes what a kill left is killed itself, and done again.
template <class Attempt>
void rest_after_two_kills(const operations_on<Attempt>& all) {
  for (auto& op : all)
    for (auto first = std::size_t{0}, second = std::size_t{0};;) {
      auto x = Attempt{};
      op.prepare(x);
      auto died = dies(x, first, [&] { return op.work(x); });
      auto again = dies(x, second, [&] { return x.pool->stop(x.mine); });
      auto trace = testing::ScopedTrace(
          __FILE__, __LINE__, fmt::format("{}, killed before {} and {}", op.name, first, second));
      ASSERT_EQ(why(x.pool->stop(x.mine)), "");
      x.expect_rest(op);
      if (again)
        ++second;
      else if (died)
        ++first, second = 0;
      else
        break;
    }
}

/// Each command fails once; how many failures were reported.
template <class Attempt>
int rest_after_failures(const operations_on<Attempt>& all) {
  auto failures = 0;
  for (auto& op : all)
    for (auto at = std::size_t{0};; ++at) {
      auto x = Attempt{};
      op.prepare(x);
      x.tool().told();
      x.tool().fail_at = at;
      auto done = op.work(x);
      auto reached = x.tool().said.size() > at;
      auto trace = testing::ScopedTrace(
          __FILE__, __LINE__,
          fmt::format("{}, failed at {} of:\n{}", op.name, at, fmt::join(x.tool().said, "\n")));
      x.tool().fail_at.reset();
      if (!done) {
        ++failures;
        EXPECT_EQ(done.error().code, model::errc::storage);
        EXPECT_THAT(done.error().text, testing::HasSubstr("I/O error"));
      }
      (void)x.pool->end_import(x.mine, false);
      EXPECT_EQ(why(x.pool->stop(x.mine)), "");
      x.expect_rest(op);
      if (!reached)
        break;
    }
  return failures;
}

} // namespace qubes::tests
