#include "model/device/disk_options.hpp"
#include "tests/model/sample.hpp"

#include <gmock/gmock.h>

#include <fmt/format.h>

namespace qubes::tests {

using namespace model;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

namespace {

struct disk_options : testing::Test {
  sample it;
  device disk;
  std::vector<attachment> has;

  disk_options() {
    disk.backend = "sys-net";
    disk.port = "sda";
  }

  outcome<device_options> complete(const device_options& given = {}) {
    return complete_disk_options(disk, given, it.view, it["work"], has);
  }
  std::string name(const device_options& given = {}) {
    auto all = complete(given);
    return all ? std::string{option_of(*all, "frontend-dev")} : all.error().text;
  }
  void attach(const std::string& frontend) {
    has.push_back({"block", "sys-net", frontend, "", {{"frontend-dev", frontend}}});
  }
};

} // namespace

TEST_F(disk_options, are_complete) {
  EXPECT_THAT(*complete(), ElementsAre(Pair("read-only", "no"), Pair("frontend-dev", "xvdi")));
  EXPECT_THAT(*complete({{"devtype", "cdrom"}, {"frontend-dev", "xvdk"}, {"read-only", "True"}}),
              ElementsAre(Pair("read-only", "yes"), Pair("frontend-dev", "xvdk"),
                          Pair("devtype", "cdrom")));
}

TEST_F(disk_options, a_disk_that_can_only_be_read_is_read_only) {
  disk.data = {{"mode", "r"}};
  EXPECT_EQ(option_of(*complete(), "read-only"), "yes");
  EXPECT_THAT(complete({{"read-only", "no"}}).error().text, HasSubstr("can only be read"));
}

TEST_F(disk_options, the_first_free_name_is_taken) {
  attach("xvdi");
  EXPECT_EQ(name(), "xvdj");
  for (auto x = 'j'; x <= 'z'; ++x)
    attach(fmt::format("xvd{}", x));
  EXPECT_EQ(name(), "xvdaa");
  for (auto x = 'a'; x <= 'z'; ++x)
    for (auto y = 'a'; y <= 'z'; ++y)
      attach(fmt::format("xvd{}{}", x, y));
  EXPECT_EQ(name(), "xvde");
  for (auto x = 'e'; x <= 'h'; ++x)
    attach(fmt::format("xvd{}", x));
  EXPECT_EQ(name(), "no name for another disk is free");
}

TEST_F(disk_options, a_name_that_an_assignment_asks_for_is_left_to_it) {
  auto later = assignment{};
  later.backend = "sys-net";
  later.port = "sdb";
  later.options = {{"frontend-dev", "xvdi"}};
  it.edit("work", [&](auto& x) { x.devices = {{"block", {later}}}; });
  EXPECT_EQ(name(), "xvdj");
  EXPECT_EQ(name({{"frontend-dev", "xvdi"}}), "xvdi");
}

TEST_F(disk_options, a_disc_is_where_the_kernels_modules_would_be) {
  EXPECT_EQ(name({{"devtype", "cdrom"}}), "xvdi");
  it.set("work", "kernel", "");
  EXPECT_EQ(name({{"devtype", "cdrom"}}), "xvdd");
}

TEST_F(disk_options, names_that_others_have_are_refused) {
  attach("xvdi");
  EXPECT_EQ(complete({{"frontend-dev", "xvdi"}}).error().code, errc::general);
  EXPECT_EQ(complete({{"frontend-dev", "xvda"}}).error().code, errc::value);
  EXPECT_EQ(complete({{"permissive", "yes"}}).error().code, errc::value);
}

} // namespace qubes::tests
