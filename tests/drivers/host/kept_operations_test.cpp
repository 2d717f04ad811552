#include "drivers/host/kept_operations.hpp"

#include "tests/fakes/power_loss_disk.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qubes::drivers {

namespace {

using model::errc;
using model::operation;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto one = "11111111-1111-4111-8111-111111111111";
constexpr auto other = "22222222-2222-4222-8222-222222222222";

bool any_domain(const std::string&) {
  return true;
}

std::vector<operation> sample() {
  return {{.what = "start",
           .ended_s = 1700000000,
           .us = 1234567,
           .steps = {{"permission", 12}, {"memory", 1234555}},
           .failure = model::failure_of({errc::no_memory, "no \"room\"\n", "wait"}, "memory")},
          {.what = "kill", .ended_s = 1700000001, .us = 7}};
}

std::string file_of(const std::string& uuid) {
  return "operations/" + uuid + ".json";
}

} // namespace

TEST(kept_operations, come_back_as_they_were) {
  auto disk = power_loss_disk{};
  ASSERT_TRUE(keep_operations(disk, one, sample()));
  auto found = find_operations(disk, any_domain);
  EXPECT_EQ(found.history.of(one), sample());
  EXPECT_THAT(found.history.of(other), IsEmpty());
  EXPECT_THAT(found.unreadable, IsEmpty());
}

TEST(kept_operations, text_of_a_guest_that_is_no_utf8_is_kept_all_the_same) {
  auto disk = power_loss_disk{};
  auto all = sample();
  all[0].failure.cause = "it said \xff";
  ASSERT_TRUE(keep_operations(disk, one, all));
  EXPECT_THAT(find_operations(disk, any_domain).history.of(one)[0].failure.cause,
              HasSubstr("it said "));
}

TEST(kept_operations, of_domains_that_are_gone_and_half_written_files_are_removed) {
  auto disk = power_loss_disk{};
  ASSERT_TRUE(keep_operations(disk, one, sample()));
  ASSERT_TRUE(keep_operations(disk, other, sample()));
  disk.foreign_write(file_of(one) + ".new", "half");
  auto found = find_operations(disk, [](auto& uuid) { return uuid == one; });
  EXPECT_EQ(found.history.of(one), sample());
  EXPECT_THAT(found.history.of(other), IsEmpty());
  EXPECT_THAT(*disk.list("operations"), ElementsAre(std::string{one} + ".json"));
}

TEST(kept_operations, nothing_to_keep_is_no_file) {
  auto disk = power_loss_disk{};
  ASSERT_TRUE(keep_operations(disk, one, sample()));
  ASSERT_TRUE(keep_operations(disk, one, {}));
  EXPECT_THAT(*disk.list("operations"), IsEmpty());
  EXPECT_TRUE(keep_operations(disk, one, {})) << "and no error";
}

TEST(kept_operations, a_damaged_or_huge_file_costs_no_more_than_itself) {
  for (auto& bad : {std::string{"{"}, std::string{"[7]"}, std::string{R"([{"what":7}])"},
                    std::string{R"([{"what":"start","ended":1,"us":1,"steps":[["a"]]}])"},
                    std::string{}, std::string(1 << 20, '[')}) {
    auto disk = power_loss_disk{};
    ASSERT_TRUE(keep_operations(disk, other, sample()));
    disk.foreign_write(file_of(one), bad);
    auto found = find_operations(disk, any_domain);
    EXPECT_THAT(found.history.of(one), IsEmpty());
    EXPECT_EQ(found.history.of(other), sample());
    EXPECT_THAT(found.unreadable, ElementsAre(HasSubstr(one)));
    EXPECT_TRUE(keep_operations(disk, one, sample())) << "the next one replaces it";
  }
}

TEST(kept_operations,
     a_power_cut_at_any_call_leaves_the_old_the_new_or_none_and_the_next_are_kept) {
  for (auto cut = std::size_t{0}; cut < 6; ++cut)
    for (auto luck = std::uint64_t{0}; luck < 4; ++luck) {
      auto disk = power_loss_disk{};
      auto old = std::vector{sample()[1]};
      ASSERT_TRUE(keep_operations(disk, one, old));
      disk.cut_power_at(cut);
      (void)keep_operations(disk, one, sample());
      disk.restart(luck);
      auto found = find_operations(disk, any_domain).history.of(one);
      EXPECT_TRUE(found == sample() || found == old || found.empty()) << cut << ' ' << luck;
      EXPECT_TRUE(keep_operations(disk, one, sample()));
      EXPECT_EQ(find_operations(disk, any_domain).history.of(one), sample()) << cut << ' ' << luck;
    }
}

} // namespace qubes::drivers
