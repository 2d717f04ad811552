#include "drivers/guest/pace.hpp"

#include <gtest/gtest.h>

namespace qubes::drivers {
namespace {

using namespace std::chrono_literals;

int taken_at(pace& x, pace::clock::time_point now) {
  auto result = 0;
  while (x.take(now))
    ++result;
  return result;
}

TEST(a_pace, gives_a_seconds_worth_at_once_and_then_one_after_the_other) {
  auto four = pace{4};
  auto now = pace::clock::time_point{} + 1h;
  EXPECT_EQ(taken_at(four, now), 4);
  EXPECT_EQ(four.due(), now + 250ms);
  EXPECT_EQ(taken_at(four, now + 249ms), 0);
  EXPECT_EQ(taken_at(four, now + 250ms), 1);
  EXPECT_EQ(taken_at(four, now + 750ms), 2);
  EXPECT_EQ(taken_at(four, now + 1h), 4) << "no more after a long rest";
}

TEST(a_pace, of_one_is_one_a_second) {
  auto one = pace{1};
  auto now = pace::clock::time_point{} + 1h;
  EXPECT_EQ(taken_at(one, now), 1);
  EXPECT_EQ(taken_at(one, now + 999ms), 0);
  EXPECT_EQ(taken_at(one, now + 1s), 1);
}

} // namespace
} // namespace qubes::drivers
