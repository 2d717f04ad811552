// file-reflink on real file systems: loop mounts of xfs and btrfs, which share blocks, and of a
// small ext4, which shares none and gets full.
#include "tests/drivers/storage/mounted.hpp"
#include "tests/drivers/storage/pool_fixture.hpp"

#include "drivers/io/files.hpp"
#include "drivers/storage/sparse_copy.hpp"

#include <gmock/gmock.h>

#include <functional>
#include <map>

namespace qubes::tests {

namespace {

using namespace drivers::storage;
using testing::AnyOf;
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

/// A small file system, which the test fills with data.
struct full_case {
  std::string driver;
  std::string type;
};

std::ostream& operator<<(std::ostream& out, const full_case& x) {
  return out << x.driver << " on " << x.type;
}

struct full_disk : testing::TestWithParam<full_case> {
  using work = std::function<model::outcome<void>()>;

  full_disk() {
    if (here.missing().empty())
      pool = *open_pool(pool_in(GetParam().driver, here.path()),
                        {std::make_shared<recorded_commands>()});
  }

  bool in_place() const { return GetParam().driver == "file"; }

  void live(const volume& x, std::string_view text) {
    ASSERT_EQ(why(pool->start(x)), "");
    write(x, text);
    ASSERT_EQ(why(pool->stop(x)), "");
  }

  /// Writes as the guest does: with the file driver through the device mapper to the image itself.
  void write(const volume& x, std::string_view text) {
    put(in_place() ? image(x) : pool->device(x), std::string{text} + data(mib));
  }

  std::string image(const volume& x) const { return here.path() + '/' + x.it.vid + ".img"; }
  std::string committed() const { return get(image(mine), 4); }

  model::outcome<void> import() {
    auto path = pool->begin_import(mine, 2 * mib);
    if (!path)
      return tl::unexpected{std::move(path.error())};
    auto done = [&]() -> model::outcome<void> {
      auto source = open_source(from.write("data", "new_" + data(2 * mib - 4)));
      auto target = open_target(*path);
      if (auto copied = sparse_copy(source->get(), target->get(), *path, {}); !copied)
        return copied;
      return sync_file(target->get(), *path);
    }();
    auto ended = pool->end_import(mine, done.has_value());
    return done ? ended : done;
  }

  /// The work is refused or done on a full disk, and done on a roomier one; nothing unfinished
  /// stays in between.
  void try_out(const std::string& name, const std::string& before, const work& x,
               const std::string& after) {
    auto trace = testing::ScopedTrace(__FILE__, __LINE__, name);
    auto mine_there = names_in(here.path() + "/appvms/work");
    here.use_up_blocks();
    auto done = x();
    if (!done) {
      ++refusals[name];
      EXPECT_EQ(done.error().code, model::errc::storage);
      EXPECT_THAT(why(done), AnyOf(HasSubstr("No space left on device; make room"),
                                   HasSubstr("are free; make room")));
      EXPECT_EQ(committed(), before);
      for (auto& left : names_in(here.path() + "/appvms/work")) {
        EXPECT_THAT(left, testing::Not(AnyOf(HasSubstr("~"), HasSubstr("import"))));
        EXPECT_THAT(mine_there, testing::Contains(left));
      }
    }
    here.make_room();
    if (!done)
      done = x();
    ASSERT_EQ(why(done), "");
    ASSERT_EQ(why(pool->verify(mine)), "");
    ASSERT_EQ(why(pool->stop(mine)), "");
    EXPECT_EQ(committed(), after);
    live(mine, "old_");
  }

  mounted here{GetParam().type, GetParam().type == "xfs" ? 400 * mib : 64 * mib,
               GetParam().type == "btrfs" ? std::vector<std::string>{"--mixed"}
                                          : std::vector<std::string>{}};
  temp_directory from;
  std::shared_ptr<drivers::storage::pool> pool;
  volume mine = kept_volume("appvms/work/private", 4 * mib, 2);
  std::map<std::string, int> refusals;
};

/// A file system that has room for few files.
struct crowded_disk : testing::TestWithParam<std::string> {
  mounted here{"ext4", 16 * mib, {"-N", "64"}};
};

} // namespace

TEST_P(sharing, is_accepted_and_start_and_stop_copy_nothing) {
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

TEST_P(full_disk, of_data_refuses_what_needs_room_leaves_nothing_and_goes_on_once_there_is) {
  NEEDS(here);
  std::filesystem::create_directory(here.path() + "/appvms");
  auto other = kept_volume("appvms/other/private", 4 * mib);
  ASSERT_EQ(why(pool->create(other)), "");
  live(other, "new_");

  try_out(
      "create", "", [&] { return pool->create(mine); }, std::string(4, '\0'));
  EXPECT_TRUE(refusals.contains("create"));
  try_out(
      "start", "old_",
      [&] {
        std::filesystem::remove(here.path() + "/appvms/work/private-precache.img");
        return pool->start(mine);
      },
      "old_");
  ASSERT_EQ(why(pool->start(mine)), "");
  write(mine, "new_");
  try_out(
      "stop", in_place() ? "new_" : "old_", [&] { return pool->stop(mine); }, "new_");
  try_out(
      "clone", "old_", [&] { return pool->import_volume(mine, *pool, other); }, "new_");
  try_out(
      "import", "old_", [&] { return import(); }, "new_");
  EXPECT_TRUE(refusals.contains("import"));
  try_out(
      "clear", "old_", [&] { return pool->clear(mine, mib); }, std::string(4, '\0'));
  mine.it.size = 8 * mib;
  try_out(
      "grow", "old_", [&] { return pool->resize(mine, 8 * mib); }, "old_");
  if (!in_place())
    try_out(
        "revert", "old_",
        [&] {
          auto facts = pool->look(mine);
          return facts->revisions.empty() ? model::fail(model::errc::internal, "no revision")
                                          : pool->revert(mine, facts->revisions.back().id);
        },
        "old_");
  for (auto& [name, n] : refusals)
    RecordProperty("refused_" + name, n);
}

INSTANTIATE_TEST_SUITE_P(kinds, full_disk,
                         testing::Values(full_case{"file", "ext4"},
                                         full_case{"file-reflink", "ext4"},
                                         full_case{"file-reflink", "xfs"},
                                         full_case{"file-reflink", "btrfs"}),
                         [](const auto& x) {
                           auto name = x.param.driver + '_' + x.param.type;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

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
