#include "drivers/host/disk_usage.hpp"

#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace qubes::drivers {

namespace {

class disk_usage : public testing::Test {
protected:
  void back_end(const std::string& name, const std::string& read, const std::string& written) {
    auto place = "bus/xen-backend/devices/" + name + "/statistics/";
    top_.write(place + "rd_sect", read + "\n");
    top_.write(place + "wr_sect", written + "\n");
  }

  auto counted() const { return count_disk_usage(top_.str()); }

  tests::temp_directory top_;
};

} // namespace

TEST_F(disk_usage, is_that_of_all_disks_of_a_guest) {
  back_end("vbd-7-51712", "100", "8");
  back_end("vbd-7-51728", "20", "0");
  back_end("vbd-12-51712", "1", "2");
  EXPECT_EQ(counted(), (std::map<std::int32_t, model::disk_usage>{{7, {120 * 512, 8 * 512}},
                                                                  {12, {512, 1024}}}));
}

TEST_F(disk_usage, leaves_out_what_is_no_disk) {
  back_end("vif-7-0", "1", "1");
  back_end("vbd-x-1", "1", "1");
  back_end("vbd-7", "1", "1");
  EXPECT_TRUE(counted().empty());
}

TEST_F(disk_usage, is_nothing_where_nothing_can_be_read) {
  EXPECT_TRUE(counted().empty());
  back_end("vbd-7-51712", "", "many");
  EXPECT_EQ(counted(), (std::map<std::int32_t, model::disk_usage>{{7, {0, 0}}}));
}

} // namespace qubes::drivers
