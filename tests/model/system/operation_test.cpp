#include "model/system/operation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qubes::model {

namespace {

operation ended(std::int64_t at, const std::string& cause = {}) {
  auto result = operation{.what = "start", .ended_s = at};
  if (!cause.empty())
    result.failure = failure_of({errc::no_memory, cause, "wait"}, "memory");
  return result;
}

} // namespace

TEST(operation_history, keeps_the_last_of_each_domain) {
  auto x = operation_history{};
  for (auto i = 0; i < 10; ++i)
    x.add("a", ended(i));
  x.add("b", ended(50));
  auto kept = x.of("a");
  ASSERT_EQ(kept.size(), operation_history::kept_of_one);
  EXPECT_EQ(kept.front().ended_s, 2);
  EXPECT_EQ(kept.back().ended_s, 9);
  EXPECT_EQ(x.of("b").size(), 1U);
  x.forget("a");
  EXPECT_TRUE(x.of("a").empty());
  EXPECT_EQ(x.of("b").size(), 1U);
}

TEST(operation_history, forgets_the_domain_whose_last_operation_is_the_oldest) {
  auto x = operation_history{};
  x.add("old", ended(1));
  x.add("busy", ended(2));
  for (auto i = std::size_t{2}; i < operation_history::kept_domains; ++i)
    EXPECT_EQ(x.add(std::to_string(i), ended(100)), "");
  x.add("old", ended(200));
  EXPECT_EQ(x.add("one more", ended(300)), "busy");
  EXPECT_TRUE(x.of("busy").empty());
  EXPECT_EQ(x.of("old").size(), 2U);
}

TEST(operation_history, tells_failures_since_a_moment_the_last_one_first) {
  auto x = operation_history{};
  x.add("a", ended(10, "long ago"));
  x.add("a", ended(20, "first"));
  x.add("b", ended(30, "second"));
  x.add("b", ended(40));
  auto found = x.failures_since(20);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].uuid, "b");
  EXPECT_EQ(found[0].what.failure.cause, "second");
  EXPECT_EQ(found[1].what.failure.cause, "first");
}

TEST(operation_history, takes_kept_operations_in_any_order_up_to_its_limit) {
  auto x = operation_history{};
  auto all = std::vector<operation>{};
  for (auto i = 20; i > 0; --i)
    all.push_back(ended(i));
  x.put("a", all);
  EXPECT_EQ(x.of("a").size(), operation_history::kept_of_one);
  EXPECT_EQ(x.of("a").back().ended_s, 20);
  x.put("a", {});
  EXPECT_TRUE(x.of("a").empty());
}

TEST(operation, a_failure_has_the_name_that_its_caller_saw_and_no_endless_sentence) {
  auto x = failure_of({errc::no_memory, std::string(5000, 'x'), "shut something down"}, "memory");
  EXPECT_EQ(x.exception, "QubesMemoryError");
  EXPECT_EQ(x.step, "memory");
  EXPECT_EQ(x.remedy, "shut something down");
  EXPECT_EQ(x.cause.size(), 1000U);
}

} // namespace qubes::model
