// The file driver without a device mapper: its commands are recorded, and not run.
#include "tests/drivers/storage/pool_fixture.hpp"

#include "drivers/io/files.hpp"

#include <gmock/gmock.h>

namespace qubes::tests {

namespace {

using namespace drivers::storage;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;

struct file_driver : testing::Test {
  void SetUp() override { ASSERT_EQ(why(opened), ""); }

  std::string file(const std::string& name) const { return top / ("appvms/work/" + name); }
  std::vector<std::string> files() const { return names_in(top / "appvms/work"); }
  static std::string id(const std::string& path) {
    auto facts = *facts_of(path);
    return fmt::format("{:x}:{}", facts.st_dev, facts.st_ino);
  }

  temp_directory top;
  std::shared_ptr<recorded_commands> commands = std::make_shared<recorded_commands>();
  model::outcome<std::shared_ptr<drivers::storage::pool>> opened =
      open_pool(pool_in("file", top.str()), {commands});
  std::shared_ptr<drivers::storage::pool> pool = opened.value_or(nullptr);
  volume mine = kept_volume("appvms/work/private");
};

/// Writes what is there after the guest has overwritten a block, whose old data is saved first.
void save_a_block(const std::string& cow) {
  put(cow, std::string(4096, 'x'), 512 << 10);
}

} // namespace

TEST_F(file_driver, starts_a_kept_volume_on_its_image_with_a_place_for_old_blocks) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  auto image = file("private.img");
  EXPECT_THAT(commands->said,
              ElementsAre(fmt::format("/usr/lib/qubes/create-snapshot origin-{} {} {}", id(image),
                                      image, file("private-cow.img"))));
  EXPECT_EQ(pool->device(mine), "/dev/mapper/origin-" + id(image));
}

TEST_F(file_driver, grows_under_a_loop_device_also_where_the_pool_is_a_link) {
  std::filesystem::create_directory(top / "real");
  std::filesystem::create_directory_symlink("real", top / "link");
  auto linked = *open_pool(pool_in("file", top / "link"), {commands});
  ASSERT_EQ(why(linked->create(mine)), "");
  auto run = [](std::vector<std::string> words) {
    return drivers::run(words, {}, std::chrono::seconds{20});
  };
  auto loop = run({"losetup", "--find", "--show", top / "link/appvms/work/private.img"});
  if (!loop || loop->status != 0)
    GTEST_SKIP() << "no loop device: " << (loop ? loop->output : why(loop));
  auto device = loop->output.substr(0, loop->output.find('\n'));
  EXPECT_EQ(why(linked->resize(mine, 9 * mib)), "");
  auto size = run({"blockdev", "--getsize64", device});
  EXPECT_EQ(size->output, fmt::format("{}\n", 9 * mib));
  (void)run({"losetup", "--detach", device});
}

TEST_F(file_driver, stop_keeps_the_old_blocks_as_the_one_revision) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_FALSE(pool->is_dirty(mine));
  save_a_block(file("private-cow.img"));
  EXPECT_TRUE(pool->is_dirty(mine));
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(files(), ElementsAre("private-cow.img.old", "private.img"));
  EXPECT_EQ(pool->look(mine)->revisions.size(), 1u);
  EXPECT_EQ(pool->revert(mine, "old").error().code, model::errc::not_implemented);
}

TEST_F(file_driver, stop_keeps_the_revision_when_the_guest_wrote_nothing) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  save_a_block(file("private-cow.img"));
  ASSERT_EQ(why(pool->stop(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(files(), ElementsAre("private-cow.img.old", "private.img"));
}

TEST_F(file_driver, starts_a_snapshot_over_its_origin) {
  auto origin = kept_volume("vm-templates/debian/root");
  auto snapshot = snapshot_of(origin, "appvms/work/root");
  ASSERT_EQ(why(pool->create(origin)), "");
  ASSERT_EQ(why(pool->create(snapshot)), "");
  ASSERT_EQ(why(pool->start(snapshot)), "");
  auto image = top / "vm-templates/debian/root.img";
  auto cow = top / "vm-templates/debian/root-cow.img";
  EXPECT_THAT(commands->said,
              ElementsAre(fmt::format("/usr/lib/qubes/create-snapshot snapshot-{}-{}-{} {} {} {}",
                                      id(image), id(cow), id(file("root-cow.img")), image, cow,
                                      file("root-cow.img"))));
  ASSERT_EQ(why(pool->stop(snapshot)), "");
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(file_driver, takes_the_device_of_a_snapshot_down_whose_origin_is_another_by_now) {
  pool = *open_pool(pool_in("file", top.str()), {.commands = commands, .mapper = top / "mapper"});
  auto origin = kept_volume("vm-templates/debian/root");
  auto snapshot = snapshot_of(origin, "appvms/work/root");
  ASSERT_EQ(why(pool->create(origin)), "");
  ASSERT_EQ(why(pool->start(snapshot)), "");
  auto words = commands->said.back();
  auto name = words.substr(words.find("snapshot-", words.find(' ')));
  auto device = top.write("mapper/" + name.substr(0, name.find(' ')), "");
  EXPECT_EQ(pool->device(snapshot), device);

  auto cow = top / "vm-templates/debian/root-cow.img";
  std::filesystem::rename(cow, cow + ".old");
  EXPECT_EQ(pool->device(snapshot), device);
  commands->said.clear();
  std::filesystem::rename(top / "mapper", top / "aside");
  top.write("mapper", "nobody can look there");
  EXPECT_THAT(why(pool->stop(snapshot)), HasSubstr("cannot read"));
  EXPECT_THAT(files(), ElementsAre("root-cow.img"));
  EXPECT_THAT(commands->said, IsEmpty());

  std::filesystem::remove(top / "mapper");
  std::filesystem::rename(top / "aside", top / "mapper");
  ASSERT_EQ(why(pool->stop(snapshot)), "");
  EXPECT_THAT(commands->said, ElementsAre("/usr/lib/qubes/destroy-snapshot " + device));
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(file_driver, takes_no_data_when_it_is_unknown_whether_the_volume_runs) {
  pool = *open_pool(pool_in("file", top.str()), {.commands = commands, .mapper = top / "mapper"});
  auto origin = kept_volume("vm-templates/debian/root");
  auto kept = snapshot_of(origin, "appvms/work/root");
  kept.it.save_on_stop = true;
  ASSERT_EQ(why(pool->create(origin)), "");
  ASSERT_EQ(why(pool->start(kept)), "");
  top.write("mapper", "nobody can look there");
  EXPECT_THAT(why(pool->begin_import(kept, mib)), HasSubstr("cannot read"));
}

TEST_F(file_driver, grows_the_device_of_a_running_volume) {
  pool = *open_pool(pool_in("file", top.str()), {.commands = commands, .mapper = top / "mapper"});
  ASSERT_EQ(why(pool->create(mine)), "");
  auto name = "origin-" + id(file("private.img"));
  top.write("mapper/" + name, "");
  commands->answers["dmsetup"] = {.output = "0 2048 snapshot-origin 7:1\n"};
  ASSERT_EQ(why(pool->resize(mine, 2 * mib)), "");
  EXPECT_THAT(commands->said,
              IsSupersetOf({"dmsetup table " + name,
                            "dmsetup load " + name + " --table 0 4096 snapshot-origin 7:1",
                            "dmsetup resume " + name}));
}

TEST_F(file_driver, quotes_the_error_of_a_failed_helper) {
  commands->answers["/usr/lib/qubes/create-snapshot"] = {.status = 1, .output = "no dm here\n"};
  ASSERT_EQ(why(pool->create(mine)), "");
  EXPECT_THAT(why(pool->start(mine)), HasSubstr("ended with status 1: no dm here"));
}

TEST_F(file_driver, scratch_space_and_volumes_without_snapshots_are_plain_images) {
  auto scratch = scratch_volume("appvms/work/volatile");
  ASSERT_EQ(why(pool->create(scratch)), "");
  ASSERT_EQ(why(pool->start(scratch)), "");
  EXPECT_EQ(pool->device(scratch), file("volatile.img"));
  mine.it.revisions_to_keep = -1;
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_EQ(pool->device(mine), file("private.img"));
  ASSERT_EQ(why(pool->stop(scratch)), "");
  EXPECT_THAT(files(), ElementsAre("private.img"));
  EXPECT_THAT(commands->said, IsEmpty());
}

TEST_F(file_driver, no_start_while_it_is_exported_and_no_export_while_it_is_dirty) {
  ASSERT_EQ(why(pool->create(mine)), "");
  auto path = pool->begin_export(mine);
  ASSERT_EQ(why(path), "");
  EXPECT_THAT(why(pool->start(mine)), HasSubstr("being read by an export"));
  pool->end_export(mine, *path);
  ASSERT_EQ(why(pool->start(mine)), "");
  save_a_block(file("private-cow.img"));
  EXPECT_THAT(why(pool->begin_export(mine)), HasSubstr("not cleanly stopped"));
}

TEST_F(file_driver, an_import_replaces_the_image_and_its_old_blocks) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  save_a_block(file("private-cow.img"));
  ASSERT_EQ(why(pool->stop(mine)), "");
  auto path = pool->begin_import(mine, 2 * mib);
  ASSERT_EQ(why(path), "");
  put(*path, "fresh");
  ASSERT_EQ(why(pool->end_import(mine, true)), "");
  EXPECT_EQ(get(file("private.img"), 5), "fresh");
  EXPECT_THAT(files(), ElementsAre("private.img"));
}

TEST_F(file_driver, grows_images_but_no_snapshots) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->resize(mine, 2 * mib)), "");
  EXPECT_EQ(pool->look(mine)->size, 2 * mib);
  EXPECT_THAT(why(pool->resize(snapshot_of(mine, "appvms/work/root"), 2 * mib)),
              HasSubstr("volume of its template"));
}

} // namespace qubes::tests
