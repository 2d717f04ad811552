// The zfs driver on a ZFS pool in memory.
#include "tests/drivers/storage/fake_zfs.hpp"
#include "tests/drivers/storage/killed_work.hpp"

#include <algorithm>

namespace qubes::tests {

namespace {

using namespace drivers::storage;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr auto gib = std::uint64_t{1} << 30;

model::pool dataset_pool(std::string container = "tank/vms", std::string forensics = "") {
  return {.name = "zfs",
          .driver = "zfs",
          .attributes = {{"name", "zfs"},
                         {"driver", "zfs"},
                         {"container", std::move(container)},
                         {"snap_on_start_forensics", std::move(forensics)}}};
}

/// A host of its own: its ZFS goes on when the daemon dies.
struct host {
  host() {
    restart();
    EXPECT_EQ(why(pool->set_up()), "");
    zfs->told();
  }

  environment machine() {
    return {.commands = zfs,
            .now = [this] { return clock; },
            .is_there = [this](auto& path) { return zfs->has_device(path); },
            .pause = [this](auto) { ++pauses; },
            .random = [this] { return ++chance; }};
  }

  void restart() { pool = *open_pool(dataset_pool(), machine()); }

  /// The guest runs from start to stop and writes.
  void run_once(const volume& x, const std::string& written) {
    ASSERT_EQ(why(pool->start(x)), "");
    zfs->data(x.it.vid) = written;
    ASSERT_EQ(why(pool->stop(x)), "");
    clock += 100;
  }

  /// The data that a reader of the last committed state gets.
  std::string committed(const volume& x) {
    auto path = pool->begin_export(x);
    if (!path)
      return "refused: " + path.error().message();
    auto result = zfs->of_device(*path).data;
    pool->end_export(x, *path);
    return result;
  }

  std::vector<std::string> revisions(const volume& x) {
    auto result = std::vector<std::string>{};
    auto facts = *pool->look(x);
    for (auto& y : facts.revisions)
      for (auto& z : zfs->datasets.at(x.it.vid).snapshots)
        if (z.name == y.id)
          result.push_back(z.data);
    return result;
  }

  /// The id of the newest revision that holds this word.
  std::string revision_of(const volume& x, const std::string& data) {
    auto result = std::string{};
    for (auto& z : zfs->datasets.at(x.it.vid).snapshots)
      if (z.name.starts_with("qubes:") && z.data == data)
        result = z.name;
    return result;
  }

  std::shared_ptr<fake_zfs> zfs = std::make_shared<fake_zfs>();
  std::time_t clock = 1700000000;
  std::uint64_t chance = 0;
  int pauses = 0;
  std::shared_ptr<drivers::storage::pool> pool;
};

struct zfs_driver : testing::Test, host {
  volume mine = kept_volume("tank/vms/work/private", gib);
  volume tpl = kept_volume("tank/vms/debian/root", gib);
  volume root = snapshot_of(tpl, "tank/vms/work/root");
};

} // namespace

// -- the commands of spec/storage.md §7 -----------------------------------------------------------

TEST_F(zfs_driver, says_to_zfs_what_the_specification_lists) {
  ASSERT_EQ(why(pool->create(mine)), "");
  EXPECT_THAT(zfs->told(),
              ElementsAre("zfs create -p -s -V 1073741824 tank/vms/work/private",
                          "zfs snapshot tank/vms/work/private@qubes:after-create:1700000000.000000",
                          "zfs snapshot tank/vms/work/private@qubes-clean-baaaaaaa"));
  EXPECT_FALSE(pool->is_dirty(mine));

  clock = 1700000100;
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(
      zfs->told(),
      ElementsAre("zfs snapshot tank/vms/work/private@qubes:before-start:1700000100.000000",
                  "zfs destroy -d -r tank/vms/work/private@qubes:after-create:1700000000.000000",
                  "zfs set org.qubes:dirty=on tank/vms/work/private",
                  "zfs set readonly=off tank/vms/work/private"));
  EXPECT_TRUE(pool->is_dirty(mine));
  EXPECT_EQ(pool->device(mine), "/dev/zvol/tank/vms/work/private");

  ASSERT_EQ(why(pool->start(mine)), ""); // after a crash
  EXPECT_THAT(zfs->told(), ElementsAre("zfs set readonly=off tank/vms/work/private"));

  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(zfs->told(),
              ElementsAre("zfs snapshot tank/vms/work/private@qubes-clean-caaaaaaa",
                          "zfs set org.qubes:dirty=off tank/vms/work/private",
                          "zfs destroy -d -r tank/vms/work/private@qubes-clean-baaaaaaa"));
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(zfs->told(), IsEmpty());

  ASSERT_EQ(why(pool->begin_import(mine, gib)), "");
  EXPECT_THAT(zfs->told(), ElementsAre("zfs create -p -s -V 1073741824 "
                                       "tank/vms/.importing/tank_vms_work_private"));
  EXPECT_THAT(why(pool->start(mine)), HasSubstr("import operation in progress"));
  ASSERT_EQ(why(pool->end_import(mine, true)), "");
  EXPECT_THAT(
      zfs->told(),
      ElementsAre("zfs snapshot tank/vms/.importing/tank_vms_work_private"
                  "@qubes:after-import-data:1700000100.000000",
                  "zfs snapshot tank/vms/.importing/tank_vms_work_private@qubes-clean-daaaaaaa",
                  "zfs rename -p tank/vms/work/private tank/vms/.tmp/tank_vms_work_private-old",
                  "zfs rename -p tank/vms/.importing/tank_vms_work_private tank/vms/work/private",
                  "zfs destroy -r tank/vms/.tmp/tank_vms_work_private-old"));
}

TEST_F(zfs_driver, takes_snapshots_of_a_template_and_throws_them_away) {
  ASSERT_EQ(why(pool->create(tpl)), "");
  ASSERT_EQ(why(pool->create(root)), "");
  zfs->told();
  ASSERT_EQ(why(pool->start(root)), "");
  EXPECT_THAT(zfs->told(),
              ElementsAre("zfs clone -p -o com.sun:auto-snapshot=false "
                          "tank/vms/debian/root@qubes-clean-baaaaaaa "
                          "tank/vms/.tmp/tank_vms_work_root",
                          "zfs rename -p tank/vms/.tmp/tank_vms_work_root tank/vms/work/root",
                          "zfs set org.qubes:dirty=on tank/vms/work/root",
                          "zfs set readonly=off tank/vms/work/root"));
  EXPECT_EQ(pool->device(root), "/dev/zvol/tank/vms/work/root");
  EXPECT_FALSE(pool->is_dirty(root));
  ASSERT_EQ(why(pool->stop(root)), "");
  EXPECT_THAT(zfs->told(), ElementsAre("zfs destroy -r tank/vms/work/root"));
}

TEST_F(zfs_driver, keeps_a_stopped_snapshot_for_forensics_until_the_next_start) {
  pool = *open_pool(dataset_pool("tank/vms", "True"), machine());
  ASSERT_EQ(why(pool->create(tpl)), "");
  run_once(root, "evidence");
  EXPECT_EQ(zfs->data(root.it.vid), "evidence");
  ASSERT_EQ(why(pool->start(root)), "");
  EXPECT_EQ(zfs->data(root.it.vid), "");
}

TEST_F(zfs_driver, makes_scratch_volumes_anew_at_every_start) {
  auto scratch = scratch_volume("tank/vms/work/volatile", gib);
  ASSERT_EQ(why(pool->create(scratch)), "");
  EXPECT_THAT(zfs->told(), IsEmpty());
  ASSERT_EQ(why(pool->start(scratch)), "");
  zfs->data(scratch.it.vid) = "secret";
  zfs->told();
  ASSERT_EQ(why(pool->start(scratch)), "");
  EXPECT_THAT(zfs->told(), ElementsAre("zfs destroy -r tank/vms/work/volatile",
                                       "zfs create -p -s -V 1073741824 -o "
                                       "com.sun:auto-snapshot=false tank/vms/work/volatile",
                                       "zfs set readonly=off tank/vms/work/volatile"));
  EXPECT_EQ(zfs->data(scratch.it.vid), "");
  ASSERT_EQ(why(pool->stop(scratch)), "");
  EXPECT_THAT(zfs->names(), IsEmpty());
}

TEST_F(zfs_driver, works_in_place_when_no_revisions_are_wanted_at_all) {
  mine.it.revisions_to_keep = 3;
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  mine.it.revisions_to_keep = -1;
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(zfs->snapshots(mine.it.vid), IsEmpty());
  zfs->data(mine.it.vid) = "two";
  EXPECT_THAT(committed(mine), HasSubstr("must be stopped first"));
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(zfs->snapshots(mine.it.vid), IsEmpty());
  EXPECT_EQ(committed(mine), "two");
  run_once(mine, "three");
  EXPECT_EQ(committed(mine), "three");
  EXPECT_THAT(revisions(mine), IsEmpty());
}

TEST_F(zfs_driver, a_state_marked_before_it_was_told_to_work_in_place_does_not_pass_for_newer) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  zfs->data(mine.it.vid) = "written";
  mine.it.revisions_to_keep = -1;
  EXPECT_EQ(committed(mine), "");
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_EQ(committed(mine), "written");
}

TEST_F(zfs_driver, makes_what_the_guest_may_not_write_read_only) {
  mine.it.rw = false;
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_EQ(zfs->told().back(), "zfs set readonly=on tank/vms/work/private");
}

// -- revisions ------------------------------------------------------------------------------------

TEST_F(zfs_driver, keeps_as_many_revisions_as_wanted_taken_before_each_start) {
  mine.it.revisions_to_keep = 2;
  ASSERT_EQ(why(pool->create(mine)), "");
  for (auto written : {"one", "two", "three", "four"})
    run_once(mine, written);
  EXPECT_THAT(revisions(mine), ElementsAre("two", "three"));
  auto facts = *pool->look(mine);
  EXPECT_EQ(facts.revisions[1].id, "qubes:before-start:1700000300.000000");
  EXPECT_EQ(facts.revisions[1].time, "2023-11-14T22:18:20");
  EXPECT_EQ(facts.size, gib);
  EXPECT_EQ(facts.usage, 4000u);
  mine.it.revisions_to_keep = 0;
  run_once(mine, "five");
  EXPECT_THAT(revisions(mine), IsEmpty());
  EXPECT_EQ(committed(mine), "five");
}

TEST_F(zfs_driver, reverts_by_rolling_back_and_the_revision_is_gone_then) {
  mine.it.revisions_to_keep = 3;
  ASSERT_EQ(why(pool->create(mine)), "");
  for (auto written : {"one", "two", "three"})
    run_once(mine, written);
  EXPECT_THAT(revisions(mine), ElementsAre("", "one", "two"));
  zfs->told();
  ASSERT_EQ(why(pool->revert(mine, revision_of(mine, "one"))), "");
  EXPECT_THAT(
      zfs->told(),
      ElementsAre("zfs rollback -r tank/vms/work/private@qubes:before-start:1700000100.000000",
                  "zfs destroy -d -r tank/vms/work/private@qubes:before-start:1700000100.000000",
                  StartsWith("zfs snapshot tank/vms/work/private@qubes-clean-")));
  EXPECT_EQ(committed(mine), "one");
  EXPECT_THAT(revisions(mine), ElementsAre(""));
  EXPECT_THAT(why(pool->revert(mine, "qubes:before-start:7.000000")), HasSubstr("no revision"));
}

TEST_F(zfs_driver, reverts_a_template_while_domains_run_on_its_later_state) {
  tpl.it.revisions_to_keep = 3;
  ASSERT_EQ(why(pool->create(tpl)), "");
  for (auto written : {"one", "two", "three"})
    run_once(tpl, written);
  ASSERT_EQ(why(pool->start(root)), "");
  ASSERT_EQ(why(pool->revert(tpl, revision_of(tpl, "two"))), "");
  EXPECT_EQ(committed(tpl), "two");
  EXPECT_EQ(zfs->data(root.it.vid), "three");
  EXPECT_THAT(revisions(tpl), ElementsAre("", "one"));
  EXPECT_EQ(pool->look(root)->outdated, true);
  ASSERT_EQ(why(pool->stop(root)), "");
  ASSERT_EQ(why(pool->start(root)), "");
  EXPECT_EQ(zfs->data(root.it.vid), "two");
  EXPECT_EQ(pool->look(root)->outdated, false);
  EXPECT_THAT(zfs->names(), ElementsAre(tpl.it.vid, root.it.vid));
}

TEST_F(zfs_driver, two_starts_within_a_second_and_a_clock_that_goes_back_are_two_revisions) {
  mine.it.revisions_to_keep = 5;
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  clock -= 100;
  run_once(mine, "two");
  clock -= 5000;
  run_once(mine, "three");
  EXPECT_THAT(revisions(mine), ElementsAre("", "", "one", "two"));
}

TEST_F(zfs_driver, a_start_that_changed_nothing_costs_no_revision) {
  mine.it.revisions_to_keep = 2;
  ASSERT_EQ(why(pool->create(mine)), "");
  for (auto written : {"one", "two"})
    run_once(mine, written);
  zfs->told();
  zfs->fail_at = 2; // the command that sets the flag
  EXPECT_THAT(why(pool->start(mine)), HasSubstr("I/O error"));
  zfs->fail_at.reset();
  EXPECT_THAT(revisions(mine), ElementsAre("one", "two"));
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(revisions(mine), ElementsAre("one", "two"));
}

TEST_F(zfs_driver, recognises_revisions_by_the_names_of_snapshots) {
  ASSERT_EQ(why(pool->create(mine)), "");
  for (auto name : {"qubes:7", "qubes:x:8.000001", "qubes:x:9.1", "qubes:x:", "qubes-x:7", "daily",
                    "qubes:x:-1", "qubes:x:7.00000x"})
    ASSERT_EQ(zfs->run({.words = {"zfs", "snapshot", mine.it.vid + '@' + name}})->status, 0);
  restart();
  auto ids = std::vector<std::string>{};
  auto facts = *pool->look(mine);
  for (auto& x : facts.revisions)
    ids.push_back(x.id);
  EXPECT_THAT(ids,
              ElementsAre("qubes:after-create:1700000000.000000", "qubes:7", "qubes:x:8.000001"));
}

// -- clones ---------------------------------------------------------------------------------------

TEST_F(zfs_driver, a_snapshot_is_outdated_once_its_template_has_a_newer_state) {
  ASSERT_EQ(why(pool->create(tpl)), "");
  EXPECT_EQ(pool->look(root)->outdated, false);
  ASSERT_EQ(why(pool->start(root)), "");
  EXPECT_EQ(pool->look(root)->outdated, false);
  ASSERT_EQ(why(pool->start(tpl)), "");
  zfs->data(tpl.it.vid) = "newer";
  EXPECT_EQ(pool->look(root)->outdated, false);
  ASSERT_EQ(why(pool->stop(tpl)), "");
  EXPECT_EQ(pool->look(root)->outdated, true);
  EXPECT_EQ(zfs->data(root.it.vid), "");
  ASSERT_EQ(why(pool->stop(root)), "");
  ASSERT_EQ(why(pool->start(root)), "");
  EXPECT_EQ(pool->look(root)->outdated, false);
  EXPECT_EQ(zfs->data(root.it.vid), "newer");
}

TEST_F(zfs_driver, exports_the_committed_state_also_while_it_runs) {
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  ASSERT_EQ(why(pool->start(mine)), "");
  zfs->data(mine.it.vid) = "two";
  zfs->told();
  auto first = *pool->begin_export(mine);
  auto again = *pool->begin_export(mine);
  EXPECT_NE(first, again);
  EXPECT_THAT(first, HasSubstr("/tank/vms/.exported/tank_vms_work_private/"));
  EXPECT_EQ(zfs->of_device(first).data, "one");
  ASSERT_EQ(why(pool->stop(mine)), ""); // a mark stays for the readers
  EXPECT_EQ(zfs->of_device(first).data, "one");
  EXPECT_THAT(why(pool->remove(mine)), HasSubstr("being read"));
  pool->end_export(mine, first);
  EXPECT_EQ(zfs->of_device(again).data, "one");
  pool->end_export(mine, again);
  EXPECT_THAT(zfs->names(), ElementsAre(mine.it.vid));
  EXPECT_FALSE(zfs->datasets.contains("tank/vms/.exported/tank_vms_work_private"));
  EXPECT_EQ(committed(mine), "two");
  EXPECT_EQ(pool->begin_export(root).error().code, model::errc::not_implemented);
}

TEST_F(zfs_driver, clones_within_its_container_without_copying) {
  auto theirs = kept_volume("tank/vms/other/private", 2 * gib);
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "mine");
  ASSERT_EQ(why(pool->create(theirs)), "");
  run_once(theirs, "theirs");
  zfs->told();
  ASSERT_EQ(why(pool->import_volume(mine, *pool, theirs)), "");
  EXPECT_THAT(zfs->told(), Not(Contains(HasSubstr("dd "))));
  EXPECT_EQ(committed(mine), "theirs");
  EXPECT_EQ(pool->look(mine)->size, 2 * gib);
  EXPECT_THAT(revisions(mine), ElementsAre("theirs"));
  EXPECT_EQ(why(pool->import_volume(root, *pool, theirs)), "");
  EXPECT_EQ(pool->import_volume(mine, *pool, root).error().code, model::errc::not_implemented);
}

TEST_F(zfs_driver, removes_a_volume_and_keeps_its_clones) {
  auto copy = kept_volume("tank/vms/copy/root", gib);
  ASSERT_EQ(why(pool->create(tpl)), "");
  run_once(tpl, "one");
  ASSERT_EQ(why(pool->create(copy)), "");
  ASSERT_EQ(why(pool->import_volume(copy, *pool, tpl)), "");
  ASSERT_EQ(why(pool->start(root)), "");
  zfs->told();
  ASSERT_EQ(why(pool->remove(tpl)), "");
  EXPECT_THAT(zfs->told(), Contains(StartsWith("zfs promote tank/vms/")));
  EXPECT_THAT(zfs->names(), ElementsAre(copy.it.vid, root.it.vid));
  EXPECT_EQ(committed(copy), "one");
  EXPECT_EQ(zfs->data(root.it.vid), "one");
  ASSERT_EQ(why(pool->stop(root)), "");
  EXPECT_THAT(zfs->names(), ElementsAre(copy.it.vid));
}

TEST_F(zfs_driver, copies_an_image_of_another_pool) {
  auto home = elsewhere{};
  zfs->files["/elsewhere"] = "theirs";
  ASSERT_EQ(why(pool->create(mine)), "");
  zfs->told();
  ASSERT_EQ(why(pool->import_volume(mine, home, kept_volume("x"))), "");
  auto said = zfs->told();
  EXPECT_EQ(said[0], "zfs create -p -s -V 131072 tank/vms/.tmp/tank_vms_work_private");
  EXPECT_EQ(said[1],
            "ionice -c3 -- dd if=/elsewhere of=/dev/zvol/tank/vms/.tmp/tank_vms_work_private "
            "conv=sparse,nocreat,fsync status=none bs=64M");
  EXPECT_EQ(committed(mine), "theirs");

  run_once(mine, "mine");
  zfs->files.clear();
  auto done = pool->import_volume(mine, home, kept_volume("x"));
  EXPECT_THAT(why(done), HasSubstr("dd exit code: 1 dd: failed to open '/elsewhere'"));
  EXPECT_THAT(zfs->names(), ElementsAre(mine.it.vid));
  EXPECT_EQ(committed(mine), "mine");
}

TEST_F(zfs_driver, refuses_to_import_while_it_is_dirty_or_importing) {
  auto home = elsewhere{};
  ASSERT_EQ(why(pool->create(mine)), "");
  EXPECT_THAT(why(pool->end_import(mine, true)), HasSubstr("no import operation in progress"));
  ASSERT_EQ(why(pool->begin_import(mine, gib)), "");
  auto refusals = std::vector{why(pool->begin_import(mine, gib)),
                              why(pool->import_volume(mine, home, kept_volume("x"))),
                              why(pool->revert(mine, "qubes:x:1.000000"))};
  for (auto& refusal : refusals)
    EXPECT_THAT(refusal, HasSubstr("import operation in progress on 'tank/vms/work/private'"));
  ASSERT_EQ(why(pool->stop(mine)), ""); // undoes a start that was refused
  ASSERT_EQ(why(pool->end_import(mine, false)), "");
  EXPECT_THAT(zfs->names(), ElementsAre(mine.it.vid));
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(why(pool->begin_import(mine, gib)), HasSubstr("dirty volume"));
  EXPECT_THAT(why(pool->import_volume(mine, home, kept_volume("x"))), HasSubstr("dirty volume"));
  EXPECT_THAT(why(pool->revert(mine, "qubes:x:1.000000")), HasSubstr("cannot revert dirty volume"));
  EXPECT_EQ(pool->begin_import(root, 1).error().code, model::errc::not_implemented);
}

// -- sizes ----------------------------------------------------------------------------------------

TEST_F(zfs_driver, grows_the_device_of_the_guest_and_of_its_copies) {
  ASSERT_EQ(why(pool->create(mine)), "");
  zfs->told();
  ASSERT_EQ(why(pool->resize(mine, 2 * gib)), "");
  EXPECT_EQ(zfs->told()[0], "zfs set volsize=2147483648 tank/vms/work/private");
  auto path = *pool->begin_export(mine);
  EXPECT_EQ(zfs->of_device(path).size, 2 * gib);
  pool->end_export(mine, path);
  zfs->told();
  ASSERT_EQ(why(pool->resize(mine, 2 * gib)), "");
  EXPECT_THAT(zfs->told(), IsEmpty());
  ASSERT_EQ(why(pool->start(mine)), "");
  zfs->told();
  ASSERT_EQ(why(pool->resize(mine, 2 * gib + 1)), "");
  EXPECT_THAT(zfs->told(), ElementsAre("zfs set volsize=2147614720 tank/vms/work/private"));
  mine.it.rw = false;
  EXPECT_EQ(pool->resize(mine, 4 * gib).error().code, model::errc::storage);
}

// -- the pool -------------------------------------------------------------------------------------

TEST(zfs_pool, is_set_up_in_a_dataset_that_is_told_what_it_is) {
  auto zfs = std::make_shared<fake_zfs>();
  auto pool = *open_pool(dataset_pool(), {.commands = zfs});
  ASSERT_EQ(why(pool->set_up()), "");
  EXPECT_THAT(zfs->told(), ElementsAre("zfs create -o mountpoint=none -o volmode=dev -o "
                                       "org.qubes-os:part-of-qvm-pool=true -p tank/vms"));
  ASSERT_EQ(why(pool->set_up()), "");
  EXPECT_THAT(zfs->told(), IsEmpty());
  ASSERT_EQ(why((*open_pool(dataset_pool("tank"), {.commands = zfs}))->set_up()), "");
  EXPECT_THAT(zfs->told(),
              ElementsAre("zfs set org.qubes-os:part-of-qvm-pool=true volmode=dev tank"));
  EXPECT_THAT(why((*open_pool(dataset_pool("disk/vms"), {.commands = zfs}))->set_up()),
              HasSubstr("no such pool 'disk'"));
  zfs->installed = false;
  EXPECT_THAT(why(pool->set_up()), HasSubstr("ZFS is not available on this system"));
}

TEST(zfs_pool, refuses_names_that_are_none) {
  for (auto name : {"", "/", "-a", "a//b", "a/", "/a", "a@b", "a b", "a/../b", "a/.tmp", "a;b"})
    EXPECT_THAT(why(open_pool(dataset_pool(name), {})), HasSubstr("no name of a ZFS dataset"))
        << name;
}

TEST_F(zfs_driver, tells_size_and_usage_of_the_pool) {
  auto facts = *pool->facts();
  EXPECT_EQ(facts.size, 1000000u);
  EXPECT_EQ(facts.usage, 250000u);
  EXPECT_THAT(facts.details,
              ElementsAre(std::pair{"data_size", 1000000u}, std::pair{"data_usage", 250000u}));
}

TEST_F(zfs_driver, asks_for_a_report_only_after_changes_and_when_it_is_old) {
  zfs->reports = 0;
  (void)pool->look(mine);
  (void)pool->look(root);
  EXPECT_EQ(zfs->reports, 1u);
  clock += 31;
  (void)pool->look(mine);
  EXPECT_EQ(zfs->reports, 2u);
}

// -- refusals -------------------------------------------------------------------------------------

TEST_F(zfs_driver, refuses_ids_that_are_not_of_this_pool) {
  for (auto vid : {"", "tank/vms", "tank/vms/", "tank/other/x", "tank/vms/a//b", "tank/vms/-f",
                   "tank/vms/a b", "tank/vms/../x", "tank/vms/.tmp/x", "tank/vms/a@b"}) {
    auto x = kept_volume(vid);
    EXPECT_THAT(why(pool->create(x)), HasSubstr("no volume id")) << vid;
    EXPECT_THAT(why(pool->remove(x)), HasSubstr("no volume id")) << vid;
    EXPECT_FALSE(pool->is_dirty(x));
  }
  EXPECT_THAT(zfs->told(), IsEmpty());
}

TEST_F(zfs_driver, refuses_to_create_over_what_is_there_and_leaves_nothing_when_it_fails) {
  ASSERT_EQ(why(pool->create(mine)), "");
  EXPECT_THAT(why(pool->create(mine)), HasSubstr("there already"));
  ASSERT_EQ(why(pool->remove(mine)), "");
  EXPECT_THAT(zfs->names(), IsEmpty());
  EXPECT_FALSE(zfs->datasets.contains("tank/vms/work"));
  zfs->told();
  zfs->fail_at = 2;
  auto done = pool->create(mine);
  EXPECT_EQ(done.error().code, model::errc::storage);
  EXPECT_EQ(done.error().text, "'zfs snapshot' failed: I/O error");
  EXPECT_THAT(zfs->names(), IsEmpty());
}

TEST_F(zfs_driver, removes_a_domain_s_dataset_with_its_last_volume) {
  ASSERT_EQ(why(pool->create(tpl)), "");
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(root)), "");
  ASSERT_EQ(why(pool->remove(mine)), "");
  EXPECT_TRUE(zfs->datasets.contains("tank/vms/work"));
  ASSERT_EQ(why(pool->remove(root)), "");
  EXPECT_FALSE(zfs->datasets.contains("tank/vms/work"));
  ASSERT_EQ(why(pool->remove(root)), "");
}

TEST_F(zfs_driver, names_volumes_that_are_missing) {
  EXPECT_THAT(why(pool->verify(mine)), HasSubstr("'tank/vms/work/private' is missing"));
  EXPECT_THAT(why(pool->start(mine)), HasSubstr("is missing"));
  EXPECT_THAT(why(pool->begin_export(mine)), HasSubstr("is missing"));
  EXPECT_THAT(why(pool->resize(mine, gib)), HasSubstr("is missing"));
  EXPECT_THAT(why(pool->verify(root)), HasSubstr("'tank/vms/debian/root' is missing"));
  EXPECT_THAT(why(pool->start(root)), HasSubstr("'tank/vms/debian/root' is missing"));
  root.origin.reset();
  EXPECT_THAT(why(pool->start(root)), HasSubstr("which is not there"));
  EXPECT_EQ(why(pool->stop(mine)), "");
}

TEST_F(zfs_driver, waits_for_a_device_that_is_open_and_for_udev_up_to_a_limit) {
  auto scratch = scratch_volume("tank/vms/work/volatile", gib);
  ASSERT_EQ(why(pool->start(scratch)), "");
  zfs->busy[scratch.it.vid] = 3;
  ASSERT_EQ(why(pool->stop(scratch)), "");
  EXPECT_EQ(pauses, 3);
  ASSERT_EQ(why(pool->start(scratch)), "");
  zfs->busy[scratch.it.vid] = 1000;
  EXPECT_THAT(why(pool->stop(scratch)), HasSubstr("dataset is busy"));
  EXPECT_EQ(pauses, 3 + 19);
  zfs->without_udev = true;
  EXPECT_THAT(why(pool->create(mine)), HasSubstr("does not appear; see whether udev works"));
  EXPECT_THAT(zfs->names(), ElementsAre(scratch.it.vid));
}

TEST(zfs_listing, that_is_not_understood_is_refused) {
  for (auto text : {"tank", "tank\t-", "a\tb\tc\td\te\tf\tg\th\ti"})
    EXPECT_THAT(why(parse_zfs_list(text)), HasSubstr("not understood")) << text;
  EXPECT_TRUE(parse_zfs_list(""));
}

TEST_F(zfs_driver, leaves_snapshots_that_were_taken_at_once_in_their_order) {
  auto text = std::string{};
  auto names = std::vector<std::string>{};
  for (auto i = 0; i < 40; ++i) {
    names.push_back(fmt::format("{}", 40 - i));
    text += fmt::format("tank@{}\t-\t-\t-\t-\t-\t7\t-\n", names.back());
  }
  auto told = parse_zfs_list(text);
  ASSERT_TRUE(told);
  auto kept = std::vector<std::string>{};
  for (auto& x : told->at("tank").snapshots)
    kept.push_back(x.name);
  EXPECT_EQ(kept, names);
}

// -- crashes --------------------------------------------------------------------------------------

namespace {

/// A host with a volume that was written three times, and one operation on it.
struct attempt : host {
  attempt() {
    mine.it.revisions_to_keep = 2;
    EXPECT_EQ(why(pool->create(mine)), "");
    for (auto written : {"one", "two", "old"})
      run_once(mine, written);
    EXPECT_EQ(why(pool->create(theirs)), "");
    run_once(theirs, "new");
    zfs->files["/elsewhere"] = "new";
  }

  fake_tool& tool() { return *zfs; }

  /// Only the volume, its revisions and one mark are left, and no more revisions than wanted.
  void expect_rest(const operation<attempt>& op) {
    EXPECT_THAT(op.states, Contains(zfs->data(mine.it.vid)));
    EXPECT_EQ(committed(mine), zfs->data(mine.it.vid));
    auto kept = revisions(mine);
    for (auto& y : op.revisions)
      EXPECT_THAT(kept, Contains(y));
    EXPECT_LE(static_cast<std::int64_t>(kept.size()),
              std::max(mine.it.revisions_to_keep, std::int64_t{0}));
    auto snapshots = zfs->snapshots(mine.it.vid);
    EXPECT_LE(std::ranges::count_if(snapshots, [](auto& x) { return x.starts_with("qubes-c"); }),
              1);
    auto left = zfs->names();
    std::erase_if(left, [&](auto& x) { return x == user.it.vid; });
    EXPECT_THAT(left, ElementsAre(theirs.it.vid, mine.it.vid));
    EXPECT_EQ(zfs->data(theirs.it.vid), "new");
    if (zfs->datasets.contains(user.it.vid)) {
      EXPECT_EQ(zfs->data(user.it.vid), "old");
    }
  }

  volume mine = kept_volume("tank/vms/work/private", gib);
  volume theirs = kept_volume("tank/vms/other/private", gib);
  volume user = snapshot_of(mine, "tank/vms/user/private"); ///< runs on the last state
  elsewhere home;
};

const operations_on<attempt>& operations() {
  static const auto nothing = [](attempt&) {};
  static const auto written = [](attempt& x) {
    ASSERT_EQ(why(x.pool->start(x.mine)), "");
    x.zfs->data(x.mine.it.vid) = "new";
  };
  static const auto imported = [](attempt& x) {
    auto path = x.pool->begin_import(x.mine, gib);
    ASSERT_EQ(why(path), "");
    x.zfs->of_device(*path).data = "new";
  };
  static const auto used = [](attempt& x) { ASSERT_EQ(why(x.pool->start(x.user)), ""); };
  static const auto revert = [](attempt& x) {
    return x.pool->revert(x.mine, x.revision_of(x.mine, "one"));
  };
  static const auto clone = [](attempt& x) {
    return x.pool->import_volume(x.mine, *x.pool, x.theirs);
  };
  // clang-format off
  static const auto all = operations_on<attempt>{
      {"start", nothing, [](attempt& x) { return x.pool->start(x.mine); }, {"old"}, {"two"}},
      {"stop", written, [](attempt& x) { return x.pool->stop(x.mine); }, {"new"}, {"two", "old"}},
      {"stop keeping none", [](attempt& x) { x.mine.it.revisions_to_keep = 0; written(x); },
       [](attempt& x) { return x.pool->stop(x.mine); }, {"new"}, {}},
      {"stop in place", [](attempt& x) { written(x); x.mine.it.revisions_to_keep = -1; },
       [](attempt& x) { return x.pool->stop(x.mine); }, {"new"}, {}},
      {"revert", nothing, revert, {"old", "one"}, {}},
      {"revert under a user", used, revert, {"old", "one"}, {}},
      {"revert to the newest", nothing,
       [](attempt& x) { return x.pool->revert(x.mine, x.revision_of(x.mine, "two")); },
       {"old", "two"}, {"one"}},
      {"begin import", nothing,
       [](attempt& x) { return x.pool->begin_import(x.mine, gib).map([](auto&&) {}); },
       {"old"}, {"one", "two"}},
      {"end import", imported, [](attempt& x) { return x.pool->end_import(x.mine, true); },
       {"old", "new"}, {}},
      {"end import under a user", [](attempt& x) { used(x); imported(x); },
       [](attempt& x) { return x.pool->end_import(x.mine, true); }, {"old", "new"}, {}},
      {"forget import", imported, [](attempt& x) { return x.pool->end_import(x.mine, false); },
       {"old"}, {"one", "two"}},
      {"copy", nothing, [](attempt& x) { return x.pool->import_volume(x.mine, x.home, x.theirs); },
       {"old", "new"}, {}},
      {"clone", nothing, clone, {"old", "new"}, {}},
      {"clone under a user", used, clone, {"old", "new"}, {}},
      {"resize", nothing, [](attempt& x) { return x.pool->resize(x.mine, 2 * gib); },
       {"old"}, {"one", "two"}},
      {"start in place", [](attempt& x) { x.mine.it.revisions_to_keep = -1; },
       [](attempt& x) { return x.pool->start(x.mine); }, {"old"}, {}},
      {"export", nothing,
       [](attempt& x) {
         return x.pool->begin_export(x.mine).map([&](const std::string& path) {
           x.pool->end_export(x.mine, path);
         });
       },
       {"old"}, {"one", "two"}},
  };
  // clang-format on
  return all;
}

} // namespace

TEST(zfs_crash, at_every_command_leaves_the_old_state_or_the_new_and_the_next_stop_tidies_up) {
  auto kills = rest_after_kills(operations());
  RecordProperty("kills", kills);
  EXPECT_GE(kills, 60);
}

TEST(zfs_crash, a_start_without_a_stop_goes_on_as_well) {
  EXPECT_GE(starts_after_kills(operations()), 60);
}

TEST(zfs_crash, while_repairing_is_repaired_as_well) {
  rest_after_two_kills(operations());
}

TEST(zfs_failure, of_any_command_changes_nothing_or_is_made_good_by_the_next_stop) {
  EXPECT_GE(rest_after_failures(operations()), 50);
}

TEST(zfs_crash, in_the_middle_of_a_roll_back_leaves_the_present_state) {
  auto x = attempt{};
  x.zfs->dies_rolling_back = true;
  EXPECT_THROW((void)x.pool->revert(x.mine, x.revision_of(x.mine, "one")), killed);
  x.restart();
  ASSERT_EQ(why(x.pool->stop(x.mine)), "");
  EXPECT_EQ(x.committed(x.mine), "old");
}

TEST(zfs_crash, while_the_guest_runs_the_next_stop_commits_what_it_wrote) {
  auto x = attempt{};
  ASSERT_EQ(why(x.pool->start(x.mine)), "");
  x.zfs->data(x.mine.it.vid) = "new";
  auto path = x.pool->begin_export(x.theirs);
  x.restart();
  EXPECT_EQ(x.committed(x.mine), "old");
  ASSERT_EQ(why(x.pool->stop(x.mine)), "");
  EXPECT_EQ(x.committed(x.mine), "new");
  ASSERT_EQ(why(x.pool->stop(x.theirs)), ""); // the reader died with the daemon
  EXPECT_THAT(x.zfs->names(), ElementsAre(x.theirs.it.vid, x.mine.it.vid));
}

} // namespace qubes::tests
