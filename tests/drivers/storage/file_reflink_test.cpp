#include "tests/drivers/storage/pool_fixture.hpp"

#include "drivers/io/files.hpp"
#include "drivers/storage/sparse_copy.hpp"

#include <gmock/gmock.h>

namespace qubes::tests {

namespace {

using namespace drivers::storage;
using model::errc;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct file_reflink : testing::Test {
  void SetUp() override { ASSERT_EQ(why(opened), ""); }

  std::string file(const std::string& name) const { return top / ("appvms/work/" + name); }

  std::vector<std::string> files(const std::string& directory = "appvms/work") const {
    return names_in(top / directory);
  }

  /// One life of the guest, which writes `text`.
  void live(const volume& x, std::string_view text) {
    ASSERT_EQ(why(pool->start(x)), "");
    put(pool->device(x), text);
    ASSERT_EQ(why(pool->stop(x)), "");
  }

  std::vector<std::string> revisions(const volume& x) {
    auto result = std::vector<std::string>{};
    if (auto facts = pool->look(x))
      for (auto& y : facts->revisions)
        result.push_back(y.id);
    return result;
  }

  temp_directory top;
  std::shared_ptr<recorded_commands> commands = std::make_shared<recorded_commands>();
  model::outcome<std::shared_ptr<drivers::storage::pool>> opened =
      open_pool(pool_in("file-reflink", top.str()), {commands});
  std::shared_ptr<drivers::storage::pool> pool = opened.value_or(nullptr);
  volume mine = kept_volume("appvms/work/private");
};

} // namespace

TEST_F(file_reflink, creates_an_image_and_a_copy_for_the_next_start) {
  ASSERT_EQ(why(pool->create(mine)), "");
  EXPECT_THAT(files(), ElementsAre("private-precache.img", "private.img"));
  EXPECT_EQ(pool->look(mine)->size, mib);
  EXPECT_FALSE(pool->is_dirty(mine));
}

TEST_F(file_reflink, does_not_take_over_an_image_that_is_there) {
  top.write("appvms/work/private.img", "somebody's data");
  EXPECT_THAT(why(pool->create(mine)), HasSubstr("is there already"));
  EXPECT_EQ(top.read("appvms/work/private.img"), "somebody's data");
}

TEST_F(file_reflink, start_uses_the_copy_made_ahead) {
  ASSERT_EQ(why(pool->create(mine)), "");
  auto ahead = facts_of(file("private-precache.img"))->st_ino;
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_EQ(facts_of(file("private-dirty.img"))->st_ino, ahead);
  EXPECT_THAT(files(), ElementsAre("private-dirty.img", "private.img"));
  EXPECT_TRUE(pool->is_dirty(mine));
}

TEST_F(file_reflink, start_drops_a_copy_of_an_older_image) {
  ASSERT_EQ(why(pool->create(mine)), "");
  put(file("private-precache.img"), "stale");
  put(file("private.img"), "fresh");
  struct ::timespec longer_ago[2]{{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1, .tv_nsec = 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, file("private-precache.img").c_str(), longer_ago, 0), 0);
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_EQ(get(pool->device(mine), 5), "fresh");
}

TEST_F(file_reflink, stop_commits_and_keeps_what_was_there) {
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "first");
  EXPECT_EQ(get(file("private.img"), 5), "first");
  EXPECT_THAT(revisions(mine), ElementsAre("1"));
  live(mine, "again");
  EXPECT_EQ(get(file("private.img"), 5), "again");
  EXPECT_THAT(revisions(mine), ElementsAre("2"));
  EXPECT_THAT(files(), ElementsAre("private-precache.img", "private.img",
                                   testing::MatchesRegex("private\\.img\\.2@.{19}Z")));
}

TEST_F(file_reflink, no_revision_is_kept_where_none_is_wanted) {
  mine.it.revisions_to_keep = 0;
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "first");
  EXPECT_THAT(revisions(mine), IsEmpty());
}

TEST_F(file_reflink, stop_of_what_is_stopped_changes_nothing) {
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "first");
  auto before = files();
  EXPECT_EQ(why(pool->stop(mine)), "");
  EXPECT_EQ(files(), before);
}

TEST_F(file_reflink, a_crash_loses_nothing_the_guest_has_written) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  put(pool->device(mine), "alive");
  ASSERT_EQ(why(pool->start(mine)), ""); // no stop came before
  EXPECT_EQ(get(pool->device(mine), 5), "alive");
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_EQ(get(file("private.img"), 5), "alive");
}

TEST_F(file_reflink, a_commit_that_was_cut_short_adds_its_revision_once) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  ASSERT_EQ(::link(file("private.img").c_str(), file("private.img.1@2026-01-02T03:04:05Z").c_str()),
            0); // the part of the commit that was done
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(revisions(mine), ElementsAre("1"));
}

TEST_F(file_reflink, start_removes_what_a_crash_left) {
  ASSERT_EQ(why(pool->create(mine)), "");
  for (auto name : {"private.img~abc", "private-dirty.img~abc", "private-import.img"})
    top.write(std::string{"appvms/work/"} + name, "half");
  top.write("appvms/work/private2.img~abc", "another volume's");
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(files(), ElementsAre("private-dirty.img", "private.img", "private2.img~abc"));
}

TEST_F(file_reflink, revert_brings_a_revision_back_and_keeps_the_present_as_one) {
  mine.it.revisions_to_keep = 2;
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "first");
  live(mine, "again");
  ASSERT_EQ(why(pool->revert(mine, "2")), "");
  EXPECT_EQ(get(file("private.img"), 5), "first");
  EXPECT_THAT(revisions(mine), ElementsAre("1", "3"));
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_EQ(get(pool->device(mine), 5), "first");
  EXPECT_THAT(why(pool->revert(mine, "1")), HasSubstr("not cleanly stopped"));
}

TEST_F(file_reflink, revert_to_a_revision_that_is_not_there_changes_nothing) {
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "first");
  auto before = files();
  EXPECT_THAT(why(pool->revert(mine, "9")), HasSubstr("no revision '9'"));
  EXPECT_EQ(files(), before);
}

TEST_F(file_reflink, a_volume_without_snapshots_is_worked_on_in_place) {
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "first");
  mine.it.revisions_to_keep = -1;
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(files(), ElementsAre("private-dirty.img"));
  put(pool->device(mine), "place");
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(files(), ElementsAre("private.img"));
  EXPECT_EQ(get(file("private.img"), 5), "place");
}

TEST_F(file_reflink, a_snapshot_is_outdated_once_its_origin_has_a_newer_state) {
  auto origin = kept_volume("vm-templates/debian/root");
  auto snapshot = snapshot_of(origin, "appvms/work/root");
  ASSERT_EQ(why(pool->create(origin)), "");
  live(origin, "first");
  ASSERT_EQ(why(pool->create(snapshot)), "");
  ASSERT_EQ(why(pool->start(snapshot)), "");
  EXPECT_EQ(get(pool->device(snapshot), 5), "first");
  EXPECT_EQ(pool->look(snapshot)->outdated, false);
  live(origin, "newer");
  EXPECT_EQ(pool->look(snapshot)->outdated, true);
  EXPECT_EQ(get(pool->device(snapshot), 5), "first");
  put(pool->device(snapshot), "trash");
  ASSERT_EQ(why(pool->stop(snapshot)), "");
  EXPECT_THAT(files(), IsEmpty());
  EXPECT_EQ(get(top / "vm-templates/debian/root.img", 5), "newer");
}

TEST_F(file_reflink, a_snapshot_of_nothing_is_refused_before_and_at_start) {
  auto snapshot = snapshot_of(kept_volume("vm-templates/debian/root"), "appvms/work/root");
  EXPECT_THAT(why(pool->verify(snapshot)), HasSubstr("vm-templates/debian/root.img' is missing"));
  EXPECT_THAT(why(pool->start(snapshot)), HasSubstr("take a snapshot"));
  snapshot.origin.reset();
  EXPECT_THAT(why(pool->verify(snapshot)), HasSubstr("which is not there"));
}

TEST_F(file_reflink, verify_misses_an_image) {
  EXPECT_THAT(why(pool->verify(mine)), HasSubstr("appvms/work/private.img' is missing"));
  ASSERT_EQ(why(pool->create(mine)), "");
  EXPECT_EQ(why(pool->verify(mine)), "");
}

TEST_F(file_reflink, scratch_space_is_made_anew_at_each_start) {
  auto scratch = scratch_volume("appvms/work/volatile", 3 * mib);
  ASSERT_EQ(why(pool->create(scratch)), "");
  ASSERT_EQ(why(pool->start(scratch)), "");
  put(pool->device(scratch), "trash");
  ASSERT_EQ(why(pool->start(scratch)), "");
  EXPECT_EQ(get(pool->device(scratch), 5), std::string(5, '\0'));
  EXPECT_EQ(pool->look(scratch)->size, 3 * mib);
  ASSERT_EQ(why(pool->stop(scratch)), "");
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(file_reflink, grows_the_committed_image_and_a_running_one) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->resize(mine, 2 * mib)), "");
  EXPECT_EQ(pool->look(mine)->size, 2 * mib);
  ASSERT_EQ(why(pool->start(mine)), "");
  ASSERT_EQ(why(pool->resize(mine, 5 * mib)), "");
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_EQ(pool->look(mine)->size, 5 * mib);
  mine.it.rw = false;
  EXPECT_THAT(why(pool->resize(mine, 6 * mib)), HasSubstr("read-only"));
}

TEST_F(file_reflink, an_import_is_seen_when_it_is_whole) {
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "older");
  auto path = pool->begin_import(mine, 4 * mib);
  ASSERT_EQ(why(path), "");
  put(*path, "fresh");
  EXPECT_EQ(get(file("private.img"), 5), "older");
  ASSERT_EQ(why(pool->end_import(mine, true)), "");
  EXPECT_EQ(get(file("private.img"), 5), "fresh");
  EXPECT_EQ(pool->look(mine)->size, 4 * mib);
  EXPECT_THAT(revisions(mine), ElementsAre("2"));
}

TEST_F(file_reflink, an_import_that_failed_leaves_nothing) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->begin_import(mine, 4 * mib)), "");
  ASSERT_EQ(why(pool->end_import(mine, false)), "");
  EXPECT_THAT(files(), ElementsAre("private-precache.img", "private.img"));
  EXPECT_THAT(why(pool->end_import(mine, true)), HasSubstr("nothing is being imported"));
  EXPECT_EQ(pool->begin_import(scratch_volume("appvms/work/volatile"), mib).error().code,
            errc::not_implemented);
}

TEST_F(file_reflink, an_import_of_another_size_than_announced_is_not_taken) {
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "older");
  for (auto size : {4 * mib - 1, 4 * mib + 1}) {
    auto path = *pool->begin_import(mine, 4 * mib);
    ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(size)), 0);
    EXPECT_THAT(why(pool->end_import(mine, true)), HasSubstr("4194304 bytes were announced"));
    EXPECT_EQ(get(file("private.img"), 5), "older");
    EXPECT_THAT(files(), testing::Not(testing::Contains(HasSubstr("import"))));
  }
}

TEST_F(file_reflink, an_abandoned_volume_is_not_committed) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  put(pool->device(mine), "unsaved");
  ASSERT_EQ(why(pool->abandon(mine)), "");
  EXPECT_TRUE(pool->is_dirty(mine));
  EXPECT_TRUE(pool->look(mine)->revisions.empty());
  EXPECT_EQ(why(pool->remove(mine)), "");
  EXPECT_FALSE(top.has("appvms/work"));
}

TEST_F(file_reflink, clear_leaves_zeros_and_a_revision) {
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "first");
  ASSERT_EQ(why(pool->clear(mine, mib)), "");
  EXPECT_EQ(get(file("private.img"), 5), std::string(5, '\0'));
  EXPECT_THAT(revisions(mine), ElementsAre("2"));
}

TEST_F(file_reflink, clear_leaves_a_running_guest_what_it_has) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  put(pool->device(mine), "alive");
  ASSERT_EQ(why(pool->clear(mine, mib)), "");
  EXPECT_EQ(get(pool->device(mine), 5), "alive");
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_EQ(get(file("private.img"), 5), "alive");
}

TEST_F(file_reflink, imports_the_committed_state_of_another_volume) {
  auto other = kept_volume("appvms/other/private", 2 * mib);
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->create(other)), "");
  live(other, "theirs");
  ASSERT_EQ(why(pool->start(other)), "");
  put(pool->device(other), "not yet");
  ASSERT_EQ(why(pool->import_volume(mine, *pool, other)), "");
  EXPECT_EQ(get(file("private.img"), 6), "theirs");
  EXPECT_EQ(pool->look(mine)->size, 2 * mib);
}

TEST_F(file_reflink, removes_everything_and_only_its_own) {
  ASSERT_EQ(why(pool->create(mine)), "");
  live(mine, "first");
  top.write("appvms/work/private2.img", "another volume's");
  top.write("appvms/work/notes.txt", "another thing");
  ASSERT_EQ(why(pool->remove(mine)), "");
  EXPECT_THAT(files(), ElementsAre("notes.txt", "private2.img"));
  EXPECT_EQ(why(pool->remove(mine)), ""); // a second time
}

TEST_F(file_reflink, never_leaves_its_directory) {
  for (auto vid : {"", "/x", "../x", "appvms/../../x", "appvms//x", "appvms/./x", "appvms/"})
    EXPECT_THAT(why(pool->create(kept_volume(vid))), HasSubstr("no volume id")) << vid;
}

TEST_F(file_reflink, set_up_refuses_a_file_system_that_cannot_share_blocks) {
  if (can_share_blocks(top.str()))
    GTEST_SKIP() << "this file system can";
  auto config = pool_in("file-reflink", top / "new");
  auto fresh = open_pool(config, {commands});
  EXPECT_THAT(why((*fresh)->set_up()), HasSubstr("setup_check=False"));
  EXPECT_FALSE(top.has("new"));
  config.attributes.emplace_back("setup_check", "False");
  EXPECT_EQ(why((*open_pool(config, {commands}))->set_up()), "");
  EXPECT_THAT(files("new"), ElementsAre("appvms", "vm-templates"));
}

TEST(sparse_copy, takes_the_data_and_leaves_the_holes) {
  auto top = temp_directory{};
  auto from = top.write("from", "");
  auto to = top.write("to", "");
  ASSERT_EQ(::truncate(from.c_str(), 1 << 30), 0);
  ASSERT_EQ(::truncate(to.c_str(), 1 << 30), 0);
  put(from, "here", 512 << 20);
  put(from, std::string(1 << 20, '\0'), 600 << 20); // zeros that take room
  auto told = std::uint64_t{0};
  auto source = open_source(from);
  auto target = open_target(to);
  ASSERT_EQ(why(drivers::storage::sparse_copy(source->get(), target->get(), to,
                                              {.tell = [&](auto done, auto) { told = done; }})),
            "");
  EXPECT_EQ(get(to, 4, 512 << 20), "here");
  EXPECT_LE(facts_of(to)->st_blocks * 512, 64 << 10);
  EXPECT_GE(told, std::uint64_t{601} << 20);
}

TEST(sparse_copy, stops_when_asked_to) {
  auto top = temp_directory{};
  auto from = top.write("from", std::string(3 << 20, 'x'));
  auto to = top.write("to", "");
  auto stop = std::stop_source{};
  auto source = open_source(from);
  auto target = open_target(to);
  auto done = drivers::storage::sparse_copy(
      source->get(), target->get(), to,
      {.stop = stop.get_token(), .tell = [&](auto, auto) { stop.request_stop(); }});
  EXPECT_THAT(why(done), HasSubstr("was stopped"));
  EXPECT_EQ(facts_of(to)->st_size, 1 << 20);
}

} // namespace qubes::tests
