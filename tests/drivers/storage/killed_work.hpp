// Work on a volume that is cut short at each of its commands, by a kill or a failure, and what must
// be there after it. For pools behind a tool in memory.
#pragma once

#include "tests/drivers/storage/fake_tool.hpp"
#include "tests/drivers/storage/pool_fixture.hpp"

#include <gmock/gmock.h>

#include <functional>

namespace qubes::tests {

/// `Attempt` is a host of its own, whose tool goes on when the daemon dies: it has `pool`, the
/// volume `mine`, tool(), restart(), committed(volume), and expect_rest(operation).
template <class Attempt>
struct operation {
  std::string name;
  std::function<void(Attempt&)> prepare;
  std::function<model::outcome<void>(Attempt&)> work;
  std::vector<std::string> states;    ///< that may be committed after a kill and the next stop
  std::vector<std::string> revisions; ///< that must be there whatever happens
};

template <class Attempt>
using operations_on = std::vector<operation<Attempt>>;

/// Whether it died on the way.
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

/// Calls `check` on what each kill left, and on what no kill left; how many kills there were.
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

/// The next daemon's stop tidies up.
template <class Attempt>
int rest_after_kills(const operations_on<Attempt>& all) {
  return killed_at_each_command(all, [](Attempt& x, const operation<Attempt>& op) {
    EXPECT_THAT(x.committed(x.mine), // readable at once, too
                testing::AnyOf("old", "new", "one", "two", testing::HasSubstr("in place")));
    ASSERT_EQ(why(x.pool->stop(x.mine)), "");
    x.expect_rest(op);
    ASSERT_EQ(why(x.pool->verify(x.mine)), "");
    ASSERT_EQ(why(x.pool->start(x.mine)), "");
  });
}

/// So does a start that no stop came before.
template <class Attempt>
int starts_after_kills(const operations_on<Attempt>& all) {
  return killed_at_each_command(all, [](Attempt& x, const operation<Attempt>& op) {
    ASSERT_EQ(why(x.pool->start(x.mine)), "");
    ASSERT_EQ(why(x.pool->stop(x.mine)), "");
    EXPECT_THAT(op.states, testing::Contains(x.committed(x.mine)));
  });
}

/// Tidying up is killed as well, and done again.
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

/// Each command fails once; how many failures were told.
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
