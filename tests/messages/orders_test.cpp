#include "messages/orders.hpp"

#include <gtest/gtest.h>

namespace qubes::tests {

namespace {

struct without_a_manner {};

} // namespace

static_assert(ask::is_order<ask::start>);
static_assert(!ask::is_order<without_a_manner>);
static_assert(!ask::is_order<job::pause_guest>);

static_assert(ask::kill::how.is_for(ask::receiver::domain));
static_assert(!ask::kill::how.is_for(ask::receiver::host));
static_assert(ask::set_property::how.is_for(ask::receiver::domain));
static_assert(ask::set_property::how.is_for(ask::receiver::host));
static_assert(!ask::set_property::how.is_for(ask::receiver::sleep));

TEST(orders, are_waited_for_as_long_as_they_say) {
  constexpr auto limits = order_limits{};
  EXPECT_EQ(limit_of(ask::kill{}, limits), limits.order);
  EXPECT_EQ(limit_of(ask::start{}, limits), limits.start);
  EXPECT_EQ(limit_of(ask::shutdown{}, limits), limits.start);
  EXPECT_EQ(limit_of(ask::create{}, limits), limits.start);
  EXPECT_EQ(limit_of(ask::run_backup{"daily"}, limits), limits.backup);
}

TEST(orders, that_end_with_their_client_get_a_cancellation) {
  auto clone = order{ask::clone_volume{"work", "private", "token"}};
  auto cancellation = begin_cancellation(clone);
  ASSERT_TRUE(cancellation);
  EXPECT_EQ(std::get<ask::clone_volume>(clone.what).cancellation, cancellation);
  auto begun = order{ask::begin_import{"private"}};
  EXPECT_TRUE(begin_cancellation(begun));
  auto start = order{ask::start{}};
  EXPECT_FALSE(begin_cancellation(start));
}

TEST(orders, that_start_work_without_waiting_have_an_answer_for_the_client) {
  auto begun = begun_by(ask::begin_export{"private"}, "work");
  ASSERT_TRUE(begun);
  EXPECT_EQ(*begun, (model::event{"work", "volume-export", {{"volume", "private"}, {"path", ""}}}));
  auto import = order{ask::begin_import{"private"}};
  EXPECT_FALSE(begun_by(import, "work"));
}

} // namespace qubes::tests
