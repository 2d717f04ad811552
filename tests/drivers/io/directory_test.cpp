#include "drivers/io/directory.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace qubes::drivers {
namespace {

namespace fs = std::filesystem;
using tests::temp_directory;

class a_directory : public ::testing::Test {
protected:
  std::uint64_t taken(const std::string& below = "") {
    auto result = space_taken(top / below);
    EXPECT_TRUE(result) << result.error().text;
    return result.value_or(0);
  }

  temp_directory top;
};

TEST_F(a_directory, names_what_is_in_it_and_follows_no_link) {
  top.write("d/b", "");
  top.write("d/a/c", "");
  fs::create_symlink(top / "d", top / "link");
  EXPECT_EQ(entries_of(top / "d"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(entries_of(top / "link"), tl::unexpected{ENOTDIR});
  EXPECT_EQ(entries_of(top / "nothing"), tl::unexpected{ENOENT});
  EXPECT_FALSE(space_taken(top / "nothing"));
}

TEST_F(a_directory, takes_the_space_of_all_below_once) {
  auto mib = std::uint64_t{1} << 20;
  top.write("d/e/large", std::string(mib, 'x'));
  auto once = taken("d");
  EXPECT_GE(once, mib);
  fs::create_hard_link(top / "d/e/large", top / "d/again");
  fs::create_symlink(top / "d/e", top / "d/link");
  EXPECT_LT(taken("d"), once + mib);
  top.write("d/more", std::string(mib, 'x'));
  EXPECT_GE(taken("d"), once + mib);
}

TEST_F(a_directory, is_measured_while_what_it_holds_comes_and_goes) {
  fs::create_directories(top / "d");
  auto stirring = std::jthread{[&](const std::stop_token& over) {
    while (!over.stop_requested())
      for (auto i = 0; i < 20; ++i) {
        auto path = top / ("d/c" + std::to_string(i));
        fs::remove_all(path);
        top.write("d/c" + std::to_string(i), "x");
        fs::remove_all(path);
        fs::create_directories(path + "/below");
      }
  }};
  for (auto i = 0; i < 2000; ++i)
    ASSERT_TRUE(space_taken(top / "d"));
}

} // namespace
} // namespace qubes::drivers
