#include "drivers/hypervisor/begin_limit.hpp"

#include <gtest/gtest.h>

#include <thread>

using namespace qubes::drivers;
using namespace std::chrono_literals;

namespace {

class limited_work : public testing::Test {
protected:
  std::chrono::milliseconds left = 10ms;
  begin_limit limit{[this] { return left; }};
};

TEST(unlimited_work, always_goes_on) {
  EXPECT_EQ(begin_limit::left(), begin_limit::unlimited);
  EXPECT_TRUE(begin_limit::may_go_on());
  EXPECT_TRUE(begin_limit::begin());
}

TEST_F(limited_work, is_given_up_when_no_time_is_left) {
  EXPECT_EQ(begin_limit::left(), 10ms);
  EXPECT_TRUE(begin_limit::may_go_on());
  EXPECT_FALSE(limit.given_up());
  left = 0ms;
  EXPECT_FALSE(begin_limit::may_go_on());
  EXPECT_FALSE(begin_limit::begin());
  EXPECT_TRUE(limit.given_up());
}

TEST_F(limited_work, goes_on_to_its_end_once_it_has_begun) {
  EXPECT_TRUE(begin_limit::begin());
  left = 0ms;
  EXPECT_EQ(begin_limit::left(), begin_limit::unlimited);
  EXPECT_TRUE(begin_limit::may_go_on());
  EXPECT_TRUE(begin_limit::begin());
  EXPECT_FALSE(limit.given_up());
}

/// The caller was told, by another clock, that the work is not done.
TEST_F(limited_work, that_was_refused_meanwhile_does_not_begin) {
  auto refused = false;
  auto inner = begin_limit{[] { return 5ms; }, [&] { return !refused; }};
  EXPECT_TRUE(begin_limit::may_go_on());
  refused = true;
  EXPECT_FALSE(begin_limit::begin());
  EXPECT_TRUE(inner.given_up());
}

TEST_F(limited_work, does_not_limit_what_runs_within_it_or_elsewhere) {
  left = 0ms;
  {
    auto inner = begin_limit{[] { return 5ms; }};
    EXPECT_TRUE(begin_limit::begin());
  }
  std::thread{[] { EXPECT_TRUE(begin_limit::may_go_on()); }}.join();
  EXPECT_FALSE(limit.given_up());
  EXPECT_FALSE(begin_limit::may_go_on());
}

} // namespace
