#include "drivers/host/network_usage.hpp"

#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace qubes::drivers {

namespace {

class network_usage : public testing::Test {
protected:
  using usages = std::map<std::int32_t, model::network_usage>;

  /// What the host received and sent over it.
  void interface(const std::string& name, const std::string& received, const std::string& sent) {
    auto place = "class/net/" + name + "/statistics/";
    top_.write(place + "rx_bytes", received + "\n");
    top_.write(place + "tx_bytes", sent + "\n");
  }

  auto counted() const { return count_network_usage(top_.str()); }

  tests::temp_directory top_;
};

} // namespace

TEST_F(network_usage, is_what_the_guest_receives_and_sends_over_all_its_interfaces) {
  interface("vif7.0", "100", "8");
  interface("vif7.1", "20", "1");
  interface("vif12.0", "0", "2");
  EXPECT_EQ(counted(), (usages{{7, {9, 120}}, {12, {2, 0}}}));
}

TEST_F(network_usage, has_what_is_emulated_for_a_guest) {
  interface("vif7.0", "0", "0");
  interface("vif7.0-emu", "5", "3");
  EXPECT_EQ(counted(), (usages{{7, {3, 5}}}));
}

TEST_F(network_usage, leaves_out_interfaces_that_are_not_of_guests) {
  for (auto name : {"eth0", "lo", "vif", "vif7", "vifx.0", "xvif7.0"})
    interface(name, "1", "1");
  EXPECT_TRUE(counted().empty());
}

TEST_F(network_usage, is_nothing_where_nothing_can_be_read) {
  EXPECT_TRUE(counted().empty());
  interface("vif7.0", "", "many");
  EXPECT_TRUE(counted().empty());
}

} // namespace qubes::drivers
