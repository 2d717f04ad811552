#include "tests/fakes/power_loss_disk.hpp"

#include <gmock/gmock.h>

#include <set>

namespace qubes::drivers {
namespace {

using testing::ElementsAre;

constexpr auto plenty = std::size_t{1} << 20;
constexpr auto lucks = std::uint64_t{64};
const auto before = std::string{"the old content"};
const auto after = std::string{"the new content, somewhat longer"};

std::optional<std::string> content(disk& d, const std::string& name = "x") {
  auto got = d.read(name, plenty);
  EXPECT_TRUE(got) << got.error().text;
  return got.value_or(std::nullopt);
}

using replacement = outcome<void> (*)(disk&, const std::string&, const std::string&);

/// What a power cut at call `fuse` of `act` leaves: the answer of `act`, and the file.
struct aftermath {
  bool success = false;
  std::optional<std::string> file;
};

aftermath survive(replacement act, bool existed, std::size_t fuse, std::uint64_t luck) {
  auto d = power_loss_disk{};
  if (existed)
    d.foreign_write("x", before);
  d.cut_power_at(fuse);
  auto success = act(d, "x", after).has_value();
  d.restart(luck);
  return {success, content(d)};
}

/// How many calls `act` makes when nothing fails.
std::size_t length_of(replacement act) {
  auto d = power_loss_disk{};
  d.foreign_write("x", before);
  EXPECT_TRUE(act(d, "x", after));
  return d.calls();
}

/// Fuses and lucks under which the promise of replace() is broken.
std::size_t outcomes_neither_old_nor_new(replacement act) {
  auto broken = std::size_t{0};
  const auto last = length_of(act);
  for (auto fuse = std::size_t{0}; fuse <= last; ++fuse)
    for (auto luck = std::uint64_t{0}; luck < lucks; ++luck) {
      auto x = survive(act, true, fuse, luck);
      broken += x.success ? x.file != after : x.file != before && x.file != after;
    }
  return broken;
}

TEST(replace, leaves_the_old_or_the_new_file_wherever_power_goes) {
  EXPECT_EQ(outcomes_neither_old_nor_new(&replace), 0U);
}

TEST(replace, when_interrupted_leaves_the_old_or_the_new_file_and_both_occur) {
  auto seen = std::set<std::optional<std::string>>{};
  for (auto fuse = std::size_t{0}; fuse <= length_of(&replace); ++fuse)
    for (auto luck = std::uint64_t{0}; luck < lucks; ++luck)
      seen.insert(survive(&replace, true, fuse, luck).file);
  EXPECT_THAT(seen, testing::UnorderedElementsAre(before, after));
}

TEST(replace, of_a_first_file_leaves_nothing_or_the_new_one) {
  for (auto fuse = std::size_t{0}; fuse <= length_of(&replace); ++fuse)
    for (auto luck = std::uint64_t{0}; luck < lucks; ++luck) {
      auto x = survive(&replace, false, fuse, luck);
      EXPECT_TRUE(x.file == after || (!x.success && !x.file)) << fuse << " " << luck;
    }
}

TEST(replace, works_again_after_any_power_cut) {
  for (auto fuse = std::size_t{0}; fuse <= length_of(&replace); ++fuse)
    for (auto luck = std::uint64_t{0}; luck < lucks; ++luck) {
      auto d = power_loss_disk{};
      d.foreign_write("x", before);
      d.cut_power_at(fuse);
      std::ignore = replace(d, "x", after);
      d.restart(luck);
      ASSERT_TRUE(replace(d, "x", "third")) << fuse << " " << luck;
      d.restart(luck + 1);
      ASSERT_EQ(content(d), "third") << fuse << " " << luck;
    }
}

TEST(replace, that_fails_leaves_the_old_file_and_nothing_beside) {
  for (auto n = std::size_t{0};; ++n) {
    auto d = power_loss_disk{};
    d.foreign_write("x", before);
    auto known = *d.stamp("x");
    d.fail_at(n, "No space left on device");
    auto done = replace(d, "x", after);
    if (done && *d.list("") == std::vector<std::string>{"x"})
      break; // the fault came too late to matter
    if (done)
      continue; // only the clean-up failed
    EXPECT_THAT(done.error().text, testing::HasSubstr("No space left on device"));
    EXPECT_EQ(content(d), before) << n;
    EXPECT_EQ(*d.stamp("x"), known) << n;
    EXPECT_THAT(*d.list(""), ElementsAre("x")) << n;
    ASSERT_LT(n, 20U);
  }
}

TEST(replace, that_fails_for_a_first_file_leaves_nothing) {
  for (auto n = std::size_t{0};; ++n) {
    auto d = power_loss_disk{};
    d.fail_at(n, "Input/output error");
    if (replace(d, "x", after))
      break;
    EXPECT_THAT(*d.list(""), ElementsAre()) << n;
    ASSERT_LT(n, 20U);
  }
}

// -- shortcuts are noticed ------------------------------------------------------------------------

outcome<void> without_directory_sync(disk& d, const std::string& name, const std::string& bytes) {
  return d.write(name + ".new", bytes)
      .and_then([&] { return d.sync(name + ".new"); })
      .and_then([&] { return d.rename(name + ".new", name); });
}

outcome<void> without_file_sync(disk& d, const std::string& name, const std::string& bytes) {
  return d.write(name + ".new", bytes)
      .and_then([&] { return d.rename(name + ".new", name); })
      .and_then([&] { return d.sync_names(name); });
}

outcome<void> in_place(disk& d, const std::string& name, const std::string& bytes) {
  return d.write(name, bytes).and_then([&] { return d.sync(name); }).and_then([&] {
    return d.sync_names(name);
  });
}

TEST(power_loss_disk, catches_a_missing_directory_sync) {
  EXPECT_GT(outcomes_neither_old_nor_new(&without_directory_sync), 0U);
}

TEST(power_loss_disk, catches_a_missing_file_sync) {
  EXPECT_GT(outcomes_neither_old_nor_new(&without_file_sync), 0U);
}

TEST(power_loss_disk, catches_writing_in_place) {
  EXPECT_GT(outcomes_neither_old_nor_new(&in_place), 0U);
}

// -- the model itself --------------------------------------------------------------------------

TEST(power_loss_disk, loses_empties_cuts_and_keeps_bytes_that_were_not_synced) {
  auto seen = std::set<std::string>{};
  for (auto luck = std::uint64_t{0}; luck < lucks; ++luck) {
    auto d = power_loss_disk{};
    d.foreign_write("x", before);
    ASSERT_TRUE(d.write("x", after));
    d.restart(luck);
    seen.insert(*content(d));
  }
  EXPECT_TRUE(seen.contains(before));
  EXPECT_TRUE(seen.contains(""));
  EXPECT_TRUE(seen.contains(after));
  EXPECT_GT(seen.size(), 3U); // some files were cut short
}

TEST(power_loss_disk, may_lose_the_name_of_a_synced_file) {
  auto seen = std::set<bool>{};
  for (auto luck = std::uint64_t{0}; luck < lucks; ++luck) {
    auto d = power_loss_disk{};
    ASSERT_TRUE(d.write("x", after));
    ASSERT_TRUE(d.sync("x"));
    d.restart(luck);
    auto got = content(d);
    EXPECT_TRUE(!got || *got == after);
    seen.insert(got.has_value());
  }
  EXPECT_EQ(seen.size(), 2U);
}

TEST(power_loss_disk, keeps_synced_names_of_that_directory_alone) {
  auto lost = false;
  for (auto luck = std::uint64_t{0}; luck < lucks; ++luck) {
    auto d = power_loss_disk{};
    ASSERT_TRUE(d.make_directory("backup"));
    for (const auto* name : {"x", "backup/x"}) {
      ASSERT_TRUE(d.write(name, after));
      ASSERT_TRUE(d.sync(name));
    }
    ASSERT_TRUE(d.sync_names("backup/x"));
    d.restart(luck);
    EXPECT_EQ(content(d, "backup/x"), after);
    lost = lost || !content(d, "x");
  }
  EXPECT_TRUE(lost);
}

TEST(power_loss_disk, renames_whole_or_not_at_all) {
  for (auto luck = std::uint64_t{0}; luck < lucks; ++luck) {
    auto d = power_loss_disk{};
    d.foreign_write("a", before);
    ASSERT_TRUE(d.rename("a", "b"));
    d.restart(luck);
    EXPECT_EQ(d.list("")->size(), 1U);
  }
}

TEST(power_loss_disk, brings_a_removed_file_back_or_not_but_never_another) {
  for (auto luck = std::uint64_t{0}; luck < lucks; ++luck) {
    auto d = power_loss_disk{};
    d.foreign_write("x", before);
    ASSERT_TRUE(d.remove("x"));
    ASSERT_TRUE(d.write("x", after));
    ASSERT_TRUE(d.sync("x"));
    d.restart(luck);
    auto got = content(d);
    EXPECT_TRUE(!got || *got == before || *got == after);
  }
}

TEST(power_loss_disk, refuses_everything_once_power_is_gone) {
  auto d = power_loss_disk{};
  d.foreign_write("x", before);
  d.cut_power_at(1);
  EXPECT_TRUE(d.read("x", plenty));
  EXPECT_FALSE(d.read("x", plenty));
  EXPECT_FALSE(d.stamp("x"));
  EXPECT_FALSE(d.write("x", ""));
  EXPECT_FALSE(d.sync("x"));
  EXPECT_FALSE(d.rename("x", "y"));
  EXPECT_FALSE(d.link("x", "y"));
  EXPECT_FALSE(d.remove("x"));
  EXPECT_FALSE(d.sync_names("x"));
  EXPECT_FALSE(d.list(""));
  EXPECT_FALSE(d.make_directory("z"));
  d.restart(0);
  EXPECT_EQ(content(d), before);
}

TEST(power_loss_disk, fails_once_with_the_given_reason_and_writes_half) {
  auto d = power_loss_disk{};
  d.fail_at(0, "No space left on device");
  auto refused = d.write("x", "12345678");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, model::errc::store);
  EXPECT_EQ(refused.error().text, "cannot write 'x': No space left on device");
  EXPECT_EQ(content(d), "1234");
}

TEST(power_loss_disk, behaves_like_a_disk_while_nothing_happens) {
  auto d = power_loss_disk{};
  EXPECT_FALSE(d.write("backup/x", "1"));
  ASSERT_TRUE(d.make_directory("backup/deep"));
  ASSERT_TRUE(d.write("backup/x", "1"));
  ASSERT_TRUE(d.link("backup/x", "y"));
  EXPECT_FALSE(d.link("backup/x", "y"));
  EXPECT_FALSE(d.rename("missing", "z"));
  EXPECT_FALSE(d.sync("missing"));
  EXPECT_TRUE(d.remove("missing"));
  EXPECT_FALSE(d.read("y", 0));
  EXPECT_THAT(*d.list("backup"), ElementsAre("x"));
  EXPECT_THAT(*d.list(""), ElementsAre("y"));
  EXPECT_EQ(d.stamp("missing"), std::nullopt);
  auto known = *d.stamp("y");
  d.foreign_write("y", "1");
  EXPECT_NE(*d.stamp("y"), known);
}

TEST(power_loss_disk, behaves_the_same_for_the_same_seed) {
  for (auto luck = std::uint64_t{0}; luck < lucks; ++luck)
    for (auto fuse = std::size_t{0}; fuse < 4; ++fuse)
      EXPECT_EQ(survive(&without_file_sync, true, fuse, luck).file,
                survive(&without_file_sync, true, fuse, luck).file);
}

} // namespace
} // namespace qubes::drivers
