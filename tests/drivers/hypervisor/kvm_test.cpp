#include "drivers/hypervisor/kvm.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qubes::drivers {

namespace {

using testing::HasSubstr;

TEST(kvm, that_is_not_there_does_not_work) {
  auto tried = try_kvm("/nowhere/kvm");
  ASSERT_FALSE(tried);
  EXPECT_THAT(tried.error().text, HasSubstr("/nowhere/kvm"));
}

TEST(kvm, that_makes_no_machine_does_not_work) {
  auto tried = try_kvm("/dev/null");
  ASSERT_FALSE(tried);
  EXPECT_THAT(tried.error().text, HasSubstr("/dev/null makes no machine"));
}

} // namespace

} // namespace qubes::drivers
