#include "drivers/host/boot_links.hpp"

#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

struct boot_link_test : ::testing::Test {
  tests::temp_directory directory;
  std::string wants = directory / "multi-user.target.wants";
  std::unique_ptr<boot_links> links = open_boot_links(wants);
  fs::path work = fs::path{wants} / "qubes-vm@work.service";
};

} // namespace

TEST_F(boot_link_test, is_made_and_taken_away) {
  for (auto i = 0; i < 2; ++i) {
    ASSERT_TRUE(links->set("work", true));
    EXPECT_EQ(fs::read_symlink(work), "/usr/lib/systemd/system/qubes-vm@.service");
  }
  EXPECT_EQ(std::distance(fs::directory_iterator{wants}, {}), 1);
  for (auto i = 0; i < 2; ++i) {
    ASSERT_TRUE(links->set("work", false));
    EXPECT_FALSE(fs::exists(fs::symlink_status(work)));
  }
}

TEST_F(boot_link_test, replaces_what_has_its_name) {
  fs::create_directory(wants);
  fs::create_symlink("/elsewhere", work);
  fs::create_symlink("/elsewhere", work.string() + ".new");
  ASSERT_TRUE(links->set("work", true));
  EXPECT_EQ(fs::read_symlink(work), "/usr/lib/systemd/system/qubes-vm@.service");
}

TEST_F(boot_link_test, that_is_not_wanted_needs_no_directory) {
  EXPECT_TRUE(links->set("work", false));
  EXPECT_FALSE(fs::exists(wants));
}

TEST_F(boot_link_test, are_those_of_the_records_at_the_beginning) {
  EXPECT_TRUE(links->align({}));
  EXPECT_FALSE(fs::exists(wants));
  ASSERT_TRUE(links->set("work", true));
  ASSERT_TRUE(links->set("gone", true));
  fs::create_symlink("/elsewhere", fs::path{wants} / "sshd.service");
  ASSERT_TRUE(links->align({"work", "vault"}));
  auto names = std::set<std::string>{};
  for (auto& x : fs::directory_iterator{wants})
    names.insert(x.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"qubes-vm@vault.service", "qubes-vm@work.service",
                                          "sshd.service"}));
}

TEST_F(boot_link_test, that_cannot_be_made_is_named) {
  fs::create_directories(work / "x"); // a directory cannot be replaced
  auto refused = links->set("work", true);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr(work.string()));
  EXPECT_FALSE(links->set("work", false));
}

TEST_F(boot_link_test, is_not_made_without_a_configured_directory) {
  EXPECT_TRUE(open_boot_links("")->set("work", true));
}

} // namespace qubes::drivers
