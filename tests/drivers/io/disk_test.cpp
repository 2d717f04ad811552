#include "drivers/io/disk.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace qubes::drivers {
namespace {

using model::errc;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto plenty = std::size_t{1} << 20;

struct disks : testing::Test {
  tests::temp_directory directory;
  std::unique_ptr<disk> d = open_disk(directory.str());

  std::optional<std::string> content(const std::string& name) {
    auto got = d->read(name, plenty);
    EXPECT_TRUE(got) << got.error().text;
    return got.value_or(std::nullopt);
  }
};

TEST_F(disks, give_back_what_was_written) {
  auto bytes = std::string(300'000, 'x');
  bytes[0] = '\0';
  bytes[1] = '\n';
  ASSERT_TRUE(d->write("qubes.xml", bytes));
  EXPECT_EQ(content("qubes.xml"), bytes);
  EXPECT_EQ(directory.read("qubes.xml"), bytes);
}

TEST_F(disks, know_a_missing_file_from_an_empty_one) {
  ASSERT_TRUE(d->write("empty", ""));
  EXPECT_EQ(content("empty"), "");
  EXPECT_EQ(content("missing"), std::nullopt);
}

TEST_F(disks, truncate_what_was_longer) {
  ASSERT_TRUE(d->write("x", "a long text"));
  ASSERT_TRUE(d->write("x", "short"));
  EXPECT_EQ(content("x"), "short");
}

TEST_F(disks, make_new_files_for_the_group_whatever_the_umask) {
  auto before = ::umask(0077); // leaves no rights to the group
  auto written = d->write("x", "1");
  auto made = d->make_directory("sub");
  ::umask(before);
  ASSERT_TRUE(written);
  ASSERT_TRUE(made);
  struct ::stat facts {};
  ASSERT_EQ(::stat((directory / "x").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0660U);
  if (const auto* group = ::getgrnam("qubes"); group && ::geteuid() == 0) {
    EXPECT_EQ(facts.st_gid, group->gr_gid);
  }
  ASSERT_EQ(::stat((directory / "sub").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0770U);
}

TEST_F(disks, keep_the_mode_of_a_file_that_exists) {
  directory.write("x", "1");
  ::chmod((directory / "x").c_str(), 0640);
  ASSERT_TRUE(d->write("x", "2"));
  struct ::stat facts {};
  ASSERT_EQ(::stat((directory / "x").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0640U);
}

TEST_F(disks, refuse_to_read_beyond_the_limit) {
  ASSERT_TRUE(d->write("x", "12345"));
  EXPECT_TRUE(d->read("x", 5));
  auto refused = d->read("x", 4);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::store);
  EXPECT_EQ(refused.error().text, "cannot read 'x': longer than 4 bytes");
}

TEST_F(disks, do_not_wait_for_a_fifo) {
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  auto read = d->read("fifo", plenty);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().text, HasSubstr("'fifo'"));
  EXPECT_FALSE(d->write("fifo", "x"));
}

TEST_F(disks, do_not_write_through_a_symbolic_link) {
  directory.write("elsewhere", "mine");
  ASSERT_EQ(::symlink("elsewhere", (directory / "x").c_str()), 0);
  EXPECT_FALSE(d->write("x", "yours"));
  EXPECT_EQ(directory.read("elsewhere"), "mine");
}

/// A reader that finds nothing there takes the default, which the owner of the link meant to
/// change.
TEST_F(disks, do_not_take_a_link_that_leads_nowhere_for_no_file) {
  ASSERT_TRUE(d->make_directory("there"));
  ASSERT_EQ(::symlink("/nowhere", (directory / "there/x").c_str()), 0);
  ASSERT_EQ(::symlink("/nowhere", (directory / "gone").c_str()), 0);
  for (auto name : {"there/x", "gone/x", "gone"}) {
    auto read = d->read(name, plenty);
    ASSERT_FALSE(read) << name;
    EXPECT_EQ(read.error().text, fmt::format("cannot read '{}': a link leads nowhere", name));
  }
  EXPECT_EQ(content("there/y"), std::nullopt);
  ASSERT_TRUE(d->write("there/y", "1"));
  ASSERT_EQ(::symlink("y", (directory / "there/z").c_str()), 0);
  EXPECT_EQ(content("there/z"), "1");
}

TEST_F(disks, say_which_file_and_why) {
  directory.write("file", "");
  auto refused = d->write("file/x", "1");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::store);
  EXPECT_EQ(refused.error().text, "cannot write 'file/x': Not a directory");
  EXPECT_EQ(d->rename("a", "b").error().text,
            "cannot rename 'a' to 'b': No such file or directory");
  EXPECT_EQ(d->sync("a").error().text, "cannot sync 'a': No such file or directory");
}

TEST_F(disks, report_a_full_disk_with_the_system_s_reason) {
  // A file size limit refuses the rest of a write like a full disk does: first short, then failed.
  auto before = rlimit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* handler = std::signal(SIGXFSZ, SIG_IGN);
  auto tight = rlimit{10'000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  auto refused = d->write("x", std::string(20'000, 'x'));
  auto replaced = replace(*d, "y", std::string(20'000, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "cannot write 'x': File too large");
  ASSERT_FALSE(replaced);
  EXPECT_THAT(*d->list(""), ElementsAre("x")); // nothing left of y
}

TEST_F(disks, never_leave_their_directory) {
  auto outside = directory.write("outside", "as it was");
  std::filesystem::create_directory(directory / "inside");
  d = open_disk(directory / "inside");
  for (const auto& name : {std::string{}, outside, std::string{"../outside"},
                           std::string{"a/../../outside"}, std::string{"a//b"}, std::string{"./x"},
                           std::string{"a/"}, std::string{".."}, std::string{"."}}) {
    SCOPED_TRACE(name);
    EXPECT_FALSE(d->read(name, plenty));
    EXPECT_FALSE(d->stamp(name));
    EXPECT_FALSE(d->write(name, "x"));
    EXPECT_FALSE(d->sync(name));
    EXPECT_FALSE(d->remove(name));
    EXPECT_FALSE(d->rename("x", name));
    EXPECT_FALSE(d->rename(name, "x"));
    EXPECT_FALSE(d->link("x", name));
    EXPECT_FALSE(d->sync_names(name));
    EXPECT_FALSE(d->make_directory(name));
  }
  EXPECT_FALSE(d->write(std::string("a\0b", 3), "x"));
  EXPECT_FALSE(d->list(".."));
  EXPECT_THAT(*d->list(""), ElementsAre());
  EXPECT_EQ(directory.read("outside"), "as it was");
}

TEST_F(disks, tell_a_foreign_write_by_the_stamp) {
  EXPECT_EQ(*d->stamp("x"), std::nullopt);
  ASSERT_TRUE(d->write("x", "1"));
  auto ours = *d->stamp("x");
  ASSERT_TRUE(ours);
  EXPECT_EQ(*d->stamp("x"), ours);
  directory.write("other", "1");
  std::filesystem::rename(directory / "other", directory / "x");
  EXPECT_NE(*d->stamp("x"), ours);
}

TEST_F(disks, link_without_replacing) {
  ASSERT_TRUE(d->write("a", "1"));
  ASSERT_TRUE(d->write("b", "2"));
  ASSERT_TRUE(d->link("a", "c"));
  EXPECT_EQ(content("c"), "1");
  auto refused = d->link("a", "b");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "cannot link 'a' to 'b': File exists");
  EXPECT_EQ(content("b"), "2");
}

TEST_F(disks, remove_what_is_there_and_do_not_mind_what_is_not) {
  ASSERT_TRUE(d->write("a", "1"));
  EXPECT_TRUE(d->remove("a"));
  EXPECT_TRUE(d->remove("a"));
  EXPECT_EQ(content("a"), std::nullopt);
}

TEST_F(disks, list_the_files_of_a_directory_sorted) {
  ASSERT_TRUE(d->make_directory("backup/old"));
  ASSERT_TRUE(d->make_directory("backup"));
  for (const auto* name : {"backup/b", "backup/a", "backup/C", "top"})
    ASSERT_TRUE(d->write(name, ""));
  EXPECT_THAT(*d->list("backup"), ElementsAre("C", "a", "b"));
  EXPECT_THAT(*d->list(""), ElementsAre("top"));
  EXPECT_THAT(*d->list("nowhere"), ElementsAre());
  EXPECT_FALSE(d->list("top"));
}

TEST_F(disks, refuse_a_directory_where_a_file_is) {
  ASSERT_TRUE(d->write("x", ""));
  auto refused = d->make_directory("x/y");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "cannot make directory 'x': File exists");
}

TEST(disk_without_directory, is_reported_in_every_call) {
  auto d = open_disk("/nonexistent/qubes");
  auto refused = d->read("qubes.xml", plenty);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text,
              HasSubstr("'/nonexistent/qubes' cannot be opened: No such file"));
  EXPECT_FALSE(d->write("x", ""));
  EXPECT_FALSE(d->list(""));
  EXPECT_FALSE(d->sync_names("x"));
}

TEST_F(disks, replace_leaves_the_new_file_and_nothing_beside) {
  ASSERT_TRUE(replace(*d, "qubes.xml", "one"));
  EXPECT_EQ(content("qubes.xml"), "one");
  ASSERT_TRUE(replace(*d, "qubes.xml", "two"));
  EXPECT_EQ(content("qubes.xml"), "two");
  EXPECT_THAT(*d->list(""), ElementsAre("qubes.xml"));
}

TEST_F(disks, replace_gets_by_what_an_earlier_crash_left) {
  directory.write("qubes.xml", "old");
  directory.write("qubes.xml.new", "half of som");
  directory.write("qubes.xml.was", "older");
  ASSERT_TRUE(replace(*d, "qubes.xml", "new"));
  EXPECT_EQ(content("qubes.xml"), "new");
  EXPECT_THAT(*d->list(""), ElementsAre("qubes.xml"));
}

TEST_F(disks, replace_works_in_a_subdirectory) {
  ASSERT_TRUE(d->make_directory("backup"));
  ASSERT_TRUE(replace(*d, "backup/x", "1"));
  EXPECT_EQ(content("backup/x"), "1");
}

} // namespace
} // namespace qubes::drivers
