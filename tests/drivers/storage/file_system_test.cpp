// file-reflink on real file systems: loop mounts of xfs and btrfs, which share blocks, and of a
// small ext4, which does not and gets full.
#include "tests/drivers/storage/mounted.hpp"
#include "tests/drivers/storage/pool_fixture.hpp"

#include "drivers/storage/files.hpp"
#include "drivers/storage/sparse_copy.hpp"

#include <gmock/gmock.h>

namespace qubes::tests {

namespace {

using namespace drivers::storage;
using testing::HasSubstr;

std::shared_ptr<drivers::storage::pool> pool_on(const mounted& where) {
  return *open_pool(pool_in("file-reflink", where.path()), {std::make_shared<recorded_commands>()});
}

/// Data that takes room.
std::string data(std::uint64_t size) {
  return std::string(size, 'x');
}

struct sharing : testing::TestWithParam<std::string> {
  mounted here{GetParam(), 400 * mib};
};

struct small_disk : testing::Test {
  mounted here{"ext4", 64 * mib};
};

/// Room for few files.
struct crowded_disk : testing::TestWithParam<std::string> {
  mounted here{"ext4", 16 * mib, {"-N", "64"}};
};

} // namespace

TEST_P(sharing, is_accepted_and_a_life_costs_no_copies) {
  NEEDS(here);
  auto pool = pool_on(here);
  ASSERT_EQ(why(pool->set_up()), "");
  EXPECT_TRUE(can_share_blocks(here.path()));
  auto mine = kept_volume("appvms/work/private", 100 * mib);
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  put(pool->device(mine), data(64 * mib));
  ASSERT_EQ(why(pool->stop(mine)), "");
  auto before = here.free();
  for (auto lives = 0; lives < 3; ++lives) {
    ASSERT_EQ(why(pool->start(mine)), "");
    put(pool->device(mine), "changed");
    ASSERT_EQ(why(pool->stop(mine)), "");
  }
  auto snapshot = snapshot_of(mine, "appvms/other/private");
  ASSERT_EQ(why(pool->create(snapshot)), "");
  ASSERT_EQ(why(pool->start(snapshot)), "");
  EXPECT_EQ(get(pool->device(snapshot), 8), "changedx");
  EXPECT_LT(before - std::min(before, here.free()), 16 * mib);
  EXPECT_EQ(get(here.path() + "/appvms/work/private.img", 8), "changedx");
}

TEST_P(sharing, a_running_volume_grows_under_the_loop_device_over_it) {
  NEEDS(here);
  auto pool = pool_on(here);
  auto mine = kept_volume("appvms/work/private", 4 * mib);
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  auto loop = run_here({"losetup", "--find", "--show", pool->device(mine)});
  if (!loop || loop->status != 0)
    GTEST_SKIP() << "no loop device: " << (loop ? loop->output : why(loop));
  auto device = loop->output.substr(0, loop->output.find('\n'));
  EXPECT_EQ(why(pool->resize(mine, 9 * mib)), "");
  auto file = open_source(device);
  EXPECT_EQ(*size_of(file->get(), device), 9 * mib);
  file->reset();
  (void)run_here({"losetup", "--detach", device});
}

INSTANTIATE_TEST_SUITE_P(file_systems, sharing, testing::Values("xfs", "btrfs"),
                         [](const auto& x) { return x.param; });

TEST_P(crowded_disk, a_creation_without_room_says_so_leaves_nothing_and_works_once_there_is) {
  NEEDS(here);
  auto pool = *open_pool(pool_in(GetParam(), here.path()), {std::make_shared<recorded_commands>()});
  auto classes = here.path() + "/appvms";
  std::filesystem::create_directory(classes);
  auto mine = kept_volume("appvms/work/private", mib);
  auto refusals = 0;
  for (auto but = 0; but < 4; ++but) {
    here.use_up_files(but);
    auto made = pool->create(mine);
    if (!made) {
      ++refusals;
      EXPECT_EQ(made.error().code, model::errc::storage);
      EXPECT_THAT(why(made), HasSubstr("No space left on device; make room"));
      EXPECT_TRUE(names_in(classes).empty()) << but;
    }
    here.make_room();
    if (!made)
      made = pool->create(mine);
    ASSERT_EQ(why(made), "");
    ASSERT_EQ(why(pool->verify(mine)), "");
    ASSERT_EQ(why(pool->remove(mine)), "");
    EXPECT_TRUE(names_in(classes).empty()) << but;
  }
  EXPECT_EQ(refusals, 2); // the directory, the image
}

INSTANTIATE_TEST_SUITE_P(drivers, crowded_disk, testing::Values("file", "file-reflink"),
                         [](const auto& x) { return x.param == "file" ? "file" : "file_reflink"; });

TEST_F(small_disk, an_import_is_written_once) {
  NEEDS(here);
  auto pool = pool_on(here);
  auto mine = kept_volume("appvms/work/private", mib);
  ASSERT_EQ(why(pool->create(mine)), "");
  auto before = here.free();
  auto path = *pool->begin_import(mine, 20 * mib);
  put(path, data(20 * mib));
  ASSERT_EQ(why(pool->end_import(mine, true)), "");
  EXPECT_LT(before - here.free(), 22 * mib);
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_EQ(get(pool->device(mine), 1, 20 * mib - 1), "x");
  ASSERT_EQ(why(pool->stop(mine)), "");
}

TEST_F(small_disk, is_refused_where_blocks_cannot_be_shared) {
  NEEDS(here);
  EXPECT_THAT(why(pool_on(here)->set_up()), HasSubstr("setup_check=False"));
}

TEST_F(small_disk, a_start_and_an_import_without_room_say_so_and_work_once_there_is) {
  NEEDS(here);
  auto pool = pool_on(here);
  auto mine = kept_volume("appvms/work/private", 30 * mib);
  auto other = kept_volume("appvms/other/private", 30 * mib);
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->create(other)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  put(pool->device(mine), data(20 * mib));
  auto ballast = here.path() + "/ballast";
  std::filesystem::copy_file(pool->device(mine), ballast);
  ASSERT_EQ(why(pool->stop(mine)), ""); // a commit needs no room of its own
  EXPECT_EQ(get(here.path() + "/appvms/work/private.img", 1), "x");
  auto refused = pool->start(mine);
  EXPECT_THAT(why(refused), HasSubstr("needs 209715"));
  EXPECT_THAT(why(refused), HasSubstr("are free; make room"));
  EXPECT_THAT(why(pool->import_volume(other, *pool, mine)), HasSubstr("are free; make room"));
  EXPECT_EQ(pool->look(other)->usage, 0u);
  EXPECT_EQ(names_in(here.path() + "/appvms/other").size(), 2u); // image and precache
  std::filesystem::remove(ballast);
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_EQ(get(pool->device(mine), 1), "x");
  ASSERT_EQ(why(pool->stop(mine)), "");
}

TEST_F(small_disk, that_fills_up_while_data_is_written_leaves_the_volume_as_it_was) {
  NEEDS(here);
  auto pool = pool_on(here);
  auto mine = kept_volume("appvms/work/private", mib);
  ASSERT_EQ(why(pool->create(mine)), "");
  auto path = pool->begin_import(mine, 100 * mib);
  ASSERT_EQ(why(path), "");
  auto from = temp_directory{};
  auto source = open_source(from.write("data", data(100 * mib)));
  auto target = open_target(*path);
  EXPECT_THAT(why(sparse_copy(source->get(), target->get(), *path, {})),
              HasSubstr("No space left on device; make room"));
  target->reset();
  ASSERT_EQ(why(pool->end_import(mine, false)), "");
  EXPECT_EQ(pool->look(mine)->size, mib);
  EXPECT_GT(here.free(), 40 * mib);
}

} // namespace qubes::tests
