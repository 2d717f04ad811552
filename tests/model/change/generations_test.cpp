#include "model/change/generations.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

namespace qubes::model {

namespace {

using namespace std::chrono_literals;

constexpr auto now = std::chrono::nanoseconds{24h * 20000};

/// The generations that are kept when a file is written every `step`, the last time just now, and
/// each write removes those that need not be kept.
std::vector<generation> kept_after(std::chrono::nanoseconds step, int changes, std::size_t recent) {
  auto result = std::vector<generation>{};
  for (auto i = changes; i-- > 0;) {
    auto at = (now - i * step).count();
    result.push_back({static_cast<std::uint64_t>(changes - i), at});
    for (auto& gone : surplus(result, at, recent))
      std::erase(result, gone);
  }
  return result;
}

std::int64_t younger_than(const std::vector<generation>& x, std::chrono::nanoseconds age) {
  return std::ranges::count_if(x,
                               [&](auto& it) { return now.count() - it.written_ns < age.count(); });
}

TEST(generations, every_change_of_the_last_hour_is_kept) {
  EXPECT_EQ(kept_after(1min, 60, 100).size(), 60U);
}

TEST(generations, a_burst_of_changes_does_not_erase_last_week) {
  auto known = kept_after(24h, 7, 20);
  ASSERT_EQ(known.size(), 7U);
  for (auto i = 0; i < 50; ++i)
    known.push_back({static_cast<std::uint64_t>(100 + i), (now + i * 1s).count()});
  auto gone = surplus(known, (now + 50s).count(), 20);
  EXPECT_TRUE(std::ranges::none_of(gone, [](auto& x) { return x.number < 7; }));
  EXPECT_EQ(known.size() - gone.size(), 6 + 20 + 1U) << "and one of the hour";
}

TEST(generations, fewer_old_generations_are_kept_than_young_ones) {
  auto kept = kept_after(10min, 6 * 24 * 400, 6);
  EXPECT_EQ(younger_than(kept, 1h), 6);
  EXPECT_NEAR(static_cast<double>(younger_than(kept, 24h)), 6 + 23, 2);
  EXPECT_NEAR(static_cast<double>(younger_than(kept, 31 * 24h)), 6 + 23 + 30, 3);
  EXPECT_NEAR(static_cast<double>(kept.size()), 6 + 23 + 30 + 48, 5);
}

TEST(generations, the_youngest_is_kept_however_old_it_is) {
  auto old = generation{7, 1};
  EXPECT_TRUE(surplus({old}, now.count(), 1).empty());
}

TEST(generations, a_clock_that_went_back_erases_nothing_young) {
  auto later = generation{1, (now + 2h).count()};
  EXPECT_TRUE(surplus({later, {2, now.count()}}, now.count(), 20).empty());
}

TEST(generations, a_clock_that_went_forward_erases_nothing_young) {
  auto known = kept_after(1min, 40, 100);
  ASSERT_EQ(known.size(), 40U);
  EXPECT_TRUE(surplus(known, (now + 400 * 24h).count(), 100).empty());
}

TEST(generations, none_are_kept_where_none_are_wanted) {
  EXPECT_EQ(surplus({{1, 1}, {2, now.count()}}, now.count(), 0).size(), 2U);
}

} // namespace

} // namespace qubes::model
