// The lvm_thin driver on a volume group in memory. scripts/test-lvm runs it on a real one.
#include "tests/drivers/storage/fake_lvm.hpp"
#include "tests/drivers/storage/killed_work.hpp"

namespace qubes::tests {

namespace {

using namespace drivers::storage;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr auto gib = std::uint64_t{1} << 30;

model::pool thin_pool(std::string group = "vg", std::string pool = "pool") {
  return {.name = "lvm",
          .driver = "lvm_thin",
          .attributes = {{"name", "lvm"},
                         {"driver", "lvm_thin"},
                         {"volume_group", std::move(group)},
                         {"thin_pool", std::move(pool)}}};
}

/// A host of its own: its LVM goes on when the daemon dies.
struct host {
  host() { restart(); }

  void restart() {
    pool = *open_pool(thin_pool(), {.commands = lvm, .now = [this] { return clock; }});
  }

  /// The guest runs from start to stop and writes.
  void run_once(const volume& x, const std::string& written) {
    ASSERT_EQ(why(pool->start(x)), "");
    lvm->data(x.it.vid + "-snap") = written;
    ASSERT_EQ(why(pool->stop(x)), "");
    clock += 100;
  }

  /// The data that a reader of the last committed state gets.
  std::string committed(const volume& x) {
    auto path = pool->begin_export(x);
    if (!path)
      return "refused: " + path.error().message();
    pool->end_export(x, *path);
    for (auto& [name, y] : lvm->volumes)
      if (mapper_path(name) == *path)
        return y.data;
    return "no device " + *path;
  }

  std::vector<std::string> revisions(const volume& x) {
    auto result = std::vector<std::string>{};
    auto facts = *pool->look(x);
    for (auto& y : facts.revisions)
      result.push_back(lvm->data(x.it.vid + '-' + y.id));
    return result;
  }

  std::shared_ptr<fake_lvm> lvm = std::make_shared<fake_lvm>();
  std::time_t clock = 1700000000;
  std::shared_ptr<drivers::storage::pool> pool;
};

struct lvm_thin : testing::Test, host {
  volume mine = kept_volume("vg/vm-my-vm-private", gib);
  volume tpl = kept_volume("vg/vm-tpl-root", gib);
};

} // namespace

// -- the sequence of spec/storage.md §6 -----------------------------------------------------------

TEST_F(lvm_thin, says_to_lvm_what_the_specification_lists) {
  ASSERT_EQ(why(pool->create(mine)), "");
  EXPECT_THAT(lvm->told(),
              ElementsAre("lvm lvcreate --thin --setactivationskip=n --activate=y "
                          "--name=vm-my-vm-private --virtualsize=1073741824B -- vg/pool"));

  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(lvm->told(),
              ElementsAre("lvm lvcreate --setactivationskip=n --activate=y --type=thin "
                          "--name=vg/vm-my-vm-private-snap -- vg/vm-my-vm-private"));
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private", "vm-my-vm-private-snap"));
  EXPECT_TRUE(pool->is_dirty(mine));

  ASSERT_EQ(why(pool->start(mine)), ""); // after a crash
  EXPECT_THAT(lvm->told(), IsEmpty());
  lvm->volumes["vg/vm-my-vm-private-snap"].active = false;
  restart();
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(lvm->told(), ElementsAre("lvm lvchange --activate=y -- vg/vm-my-vm-private-snap"));

  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(lvm->told(),
              ElementsAre("lvm lvrename -- vg/vm-my-vm-private vg/vm-my-vm-private-1700000000-back",
                          "lvm lvrename -- vg/vm-my-vm-private-snap vg/vm-my-vm-private"));
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private", "vm-my-vm-private-1700000000-back"));

  clock = 1700000100;
  ASSERT_EQ(why(pool->start(mine)), "");
  lvm->told();
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(lvm->told(),
              ElementsAre("lvm lvrename -- vg/vm-my-vm-private vg/vm-my-vm-private-1700000100-back",
                          "lvm lvrename -- vg/vm-my-vm-private-snap vg/vm-my-vm-private",
                          "blkdiscard -p 1G /dev/vg/vm-my-vm-private-1700000000-back",
                          "lvm lvremove --force -- vg/vm-my-vm-private-1700000000-back"));
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private", "vm-my-vm-private-1700000100-back"));

  ASSERT_EQ(why(pool->begin_import(mine, gib)), "");
  EXPECT_THAT(lvm->told(),
              ElementsAre("lvm lvcreate --thin --setactivationskip=n --activate=y "
                          "--name=vm-my-vm-private-import --virtualsize=1073741824B -- vg/pool"));
  EXPECT_THAT(why(pool->start(mine)),
              HasSubstr("import operation in progress on 'vg/vm-my-vm-private'"));

  clock = 1700000200;
  ASSERT_EQ(why(pool->end_import(mine, true)), "");
  EXPECT_THAT(lvm->told(),
              ElementsAre("lvm lvrename -- vg/vm-my-vm-private vg/vm-my-vm-private-1700000200-back",
                          "lvm lvrename -- vg/vm-my-vm-private-import vg/vm-my-vm-private",
                          "blkdiscard -p 1G /dev/vg/vm-my-vm-private-1700000100-back",
                          "lvm lvremove --force -- vg/vm-my-vm-private-1700000100-back"));
}

TEST_F(lvm_thin, takes_snapshots_of_a_template_and_throws_them_away) {
  auto root = snapshot_of(tpl, "vg/vm-my-vm-root");
  ASSERT_EQ(why(pool->create(tpl)), "");
  ASSERT_EQ(why(pool->create(root)), "");
  lvm->told();
  ASSERT_EQ(why(pool->start(root)), "");
  EXPECT_THAT(lvm->told(),
              ElementsAre("lvm lvcreate --setactivationskip=n --activate=y --type=thin "
                          "--name=vg/vm-my-vm-root-snap -- vg/vm-tpl-root"));
  EXPECT_EQ(pool->device(root), "/dev/mapper/vg-vm--my--vm--root--snap");
  ASSERT_EQ(why(pool->stop(root)), "");
  EXPECT_THAT(lvm->told(), ElementsAre("blkdiscard -p 1G /dev/vg/vm-my-vm-root-snap",
                                       "lvm lvremove --force -- vg/vm-my-vm-root-snap"));
}

TEST_F(lvm_thin, makes_scratch_volumes_anew_at_every_start) {
  auto scratch = scratch_volume("vg/vm-my-vm-volatile", gib);
  ASSERT_EQ(why(pool->create(scratch)), "");
  EXPECT_THAT(lvm->told(), IsEmpty());
  ASSERT_EQ(why(pool->start(scratch)), "");
  lvm->data("vg/vm-my-vm-volatile") = "secret";
  lvm->told();
  ASSERT_EQ(why(pool->start(scratch)), "");
  EXPECT_THAT(lvm->told(),
              ElementsAre("blkdiscard -p 1G /dev/vg/vm-my-vm-volatile",
                          "lvm lvremove --force -- vg/vm-my-vm-volatile",
                          "lvm lvcreate --thin --setactivationskip=n --activate=y "
                          "--name=vm-my-vm-volatile --virtualsize=1073741824B -- vg/pool"));
  EXPECT_EQ(lvm->data("vg/vm-my-vm-volatile"), "");
  EXPECT_EQ(pool->device(scratch), "/dev/mapper/vg-vm--my--vm--volatile");
  ASSERT_EQ(why(pool->stop(scratch)), "");
  EXPECT_THAT(lvm->names(), IsEmpty());
}

TEST_F(lvm_thin, works_in_place_when_no_revisions_are_wanted_at_all) {
  mine.it.revisions_to_keep = 3;
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  run_once(mine, "two");
  mine.it.revisions_to_keep = -1;
  lvm->told();
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(lvm->told(), ElementsAre(HasSubstr("blkdiscard"), HasSubstr("blkdiscard"),
                                       "lvm lvremove --force -- vg/vm-my-vm-private-1700000000-back"
                                       " vg/vm-my-vm-private-1700000100-back"));
  EXPECT_EQ(pool->device(mine), "/dev/mapper/vg-vm--my--vm--private");
  EXPECT_EQ(committed(mine), "two");
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private"));
}

TEST_F(lvm_thin, commits_what_was_written_before_it_was_told_to_work_in_place) {
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  lvm->data("vg/vm-my-vm-private-snap") = "written";
  mine.it.revisions_to_keep = -1;
  restart();
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_EQ(lvm->data("vg/vm-my-vm-private"), "written");
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private"));
}

// -- revisions ------------------------------------------------------------------------------------

TEST_F(lvm_thin, reverts_and_keeps_the_revision) {
  mine.it.revisions_to_keep = 2;
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  run_once(mine, "two");
  run_once(mine, "three");
  EXPECT_THAT(revisions(mine), ElementsAre("one", "two"));
  lvm->told();
  ASSERT_EQ(why(pool->revert(mine, "1700000100-back")), "");
  EXPECT_EQ(committed(mine), "one");
  EXPECT_THAT(revisions(mine), ElementsAre("one", "two"));
  EXPECT_THAT(
      lvm->told(),
      ElementsAre("lvm lvcreate --setactivationskip=n --activate=y --type=thin "
                  "--name=vg/vm-my-vm-private-import -- vg/vm-my-vm-private-1700000100-back",
                  "lvm lvrename -- vg/vm-my-vm-private vg/vm-my-vm-private-old",
                  "lvm lvrename -- vg/vm-my-vm-private-import vg/vm-my-vm-private",
                  "blkdiscard -p 1G /dev/vg/vm-my-vm-private-old",
                  "lvm lvremove --force -- vg/vm-my-vm-private-old"));
}

TEST_F(lvm_thin, lists_revisions_with_their_time_and_none_of_other_volumes) {
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  lvm->volumes["vg/vm-my-vm-private-1-2-back"] = {};
  lvm->volumes["vg/vm-my-vm-private-x-back"] = {};
  lvm->volumes["vg/vm-my-vm-private2-1600000000-back"] = {};
  restart();
  auto facts = *pool->look(mine);
  ASSERT_EQ(facts.revisions.size(), 1u);
  EXPECT_EQ(facts.revisions[0].id, "1700000000-back");
  EXPECT_EQ(facts.revisions[0].time, "2023-11-14T22:13:20");
  EXPECT_EQ(facts.size, gib);
  EXPECT_EQ(facts.usage, gib / 2);
  EXPECT_THAT(why(pool->revert(mine, "1-2-back")), HasSubstr("no revision '1-2-back'"));
}

TEST_F(lvm_thin, two_stops_within_a_second_and_a_clock_that_goes_back_are_two_revisions) {
  mine.it.revisions_to_keep = 5;
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  clock -= 100;
  run_once(mine, "two");
  clock -= 5000;
  run_once(mine, "three");
  EXPECT_THAT(revisions(mine), ElementsAre("", "one", "two"));
}

TEST_F(lvm_thin, keeps_none_when_none_are_wanted) {
  mine.it.revisions_to_keep = 0;
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private"));
  EXPECT_EQ(committed(mine), "one");
}

TEST_F(lvm_thin, removes_all_that_belongs_to_a_volume_in_one_command) {
  mine.it.revisions_to_keep = 2;
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  run_once(mine, "two");
  ASSERT_EQ(why(pool->start(mine)), "");
  lvm->volumes["vg/vm-my-vm-private-old"] = {};
  lvm->volumes["vg/vm-my-vm-private-import"] = {};
  lvm->volumes["vg/vm-my-vm-private2"] = {};
  restart();
  lvm->told();
  ASSERT_EQ(why(pool->remove(mine)), "");
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private2"));
  auto said = lvm->told();
  EXPECT_EQ(std::ranges::count_if(said, [](auto& x) { return x.starts_with("lvm"); }), 1);
  ASSERT_EQ(why(pool->remove(mine)), "");
  EXPECT_THAT(lvm->told(), IsEmpty());
}

// -- what snapshots see ---------------------------------------------------------------------------

TEST_F(lvm_thin, a_snapshot_is_outdated_once_its_template_has_a_newer_state) {
  auto root = snapshot_of(tpl, "vg/vm-my-vm-root");
  ASSERT_EQ(why(pool->create(tpl)), "");
  EXPECT_EQ(pool->look(root)->outdated, false);
  ASSERT_EQ(why(pool->start(root)), "");
  EXPECT_EQ(pool->look(root)->outdated, false);
  run_once(tpl, "newer");
  EXPECT_EQ(pool->look(root)->outdated, true);
  tpl.it.revisions_to_keep = 0; // the origin's name goes with the origin
  run_once(tpl, "newest");
  EXPECT_EQ(pool->look(root)->outdated, true);
  ASSERT_EQ(why(pool->stop(root)), "");
  ASSERT_EQ(why(pool->start(root)), "");
  EXPECT_EQ(pool->look(root)->outdated, false);
  EXPECT_EQ(lvm->data("vg/vm-my-vm-root-snap"), "newest");
}

TEST_F(lvm_thin, exports_the_committed_state_also_while_it_runs) {
  ASSERT_EQ(why(pool->create(mine)), "");
  run_once(mine, "one");
  ASSERT_EQ(why(pool->start(mine)), "");
  lvm->data("vg/vm-my-vm-private-snap") = "two";
  EXPECT_EQ(committed(mine), "one");
  EXPECT_EQ(*pool->begin_export(mine), "/dev/mapper/vg-vm--my--vm--private");
  EXPECT_THAT(why(pool->begin_export(snapshot_of(tpl, "vg/vm-my-vm-root"))),
              HasSubstr("has no data of its own"));
}

TEST_F(lvm_thin, removes_no_volume_that_is_being_exported) {
  mine.it.revisions_to_keep = 0;
  ASSERT_EQ(why(pool->create(mine)), "");
  auto path = *pool->begin_export(mine);
  run_once(mine, "two");
  EXPECT_EQ(lvm->names().size(), 2u);
  EXPECT_THAT(why(pool->remove(mine)), HasSubstr("being read"));
  EXPECT_THAT(why(pool->revert(mine, "1700000000-back")), HasSubstr("being read"));
  pool->end_export(mine, path);
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private"));
}

// -- imports --------------------------------------------------------------------------------------

TEST_F(lvm_thin, copies_an_image_of_another_pool_and_keeps_the_old_state) {
  auto home = elsewhere{};
  lvm->files["/elsewhere"] = "theirs";
  ASSERT_EQ(why(pool->create(mine)), "");
  lvm->told();
  ASSERT_EQ(why(pool->import_volume(mine, home, kept_volume("x"))), "");
  EXPECT_THAT(lvm->told(),
              ElementsAre("lvm lvcreate --thin --setactivationskip=n --activate=y "
                          "--name=vm-my-vm-private-import --virtualsize=1024B -- vg/pool",
                          "dd if=/elsewhere of=/dev/vg/vm-my-vm-private-import "
                          "conv=sparse,nocreat,fsync status=none bs=128K",
                          HasSubstr("lvrename"), HasSubstr("lvrename")));
  EXPECT_EQ(committed(mine), "theirs");
  EXPECT_THAT(revisions(mine), ElementsAre(""));
}

TEST_F(lvm_thin, a_copy_that_fails_leaves_nothing) {
  auto home = elsewhere{};
  ASSERT_EQ(why(pool->create(mine)), "");
  lvm->data(mine.it.vid) = "mine";
  auto done = pool->import_volume(mine, home, kept_volume("x"));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, model::errc::storage);
  EXPECT_THAT(done.error().text, HasSubstr("dd exit code: 1 dd: failed to open '/elsewhere'"));
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private"));
  EXPECT_EQ(committed(mine), "mine");
}

TEST_F(lvm_thin, clones_within_its_thin_pool_without_copying) {
  auto theirs = kept_volume("vg/vm-other-private", 2 * gib);
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->create(theirs)), "");
  lvm->data(theirs.it.vid) = "theirs";
  lvm->told();
  ASSERT_EQ(why(pool->import_volume(mine, *pool, theirs)), "");
  EXPECT_THAT(lvm->told(), Not(testing::Contains(HasSubstr("dd "))));
  EXPECT_EQ(committed(mine), "theirs");
  EXPECT_EQ(pool->look(mine)->size, 2 * gib);
  EXPECT_THAT(revisions(mine), ElementsAre(""));
}

TEST_F(lvm_thin, refuses_to_import_while_it_is_dirty_or_importing) {
  auto home = elsewhere{};
  ASSERT_EQ(why(pool->create(mine)), "");
  EXPECT_THAT(why(pool->end_import(mine, true)), HasSubstr("no import operation in progress"));
  ASSERT_EQ(why(pool->begin_import(mine, gib)), "");
  auto refusals = std::vector{why(pool->begin_import(mine, gib)),
                              why(pool->import_volume(mine, home, kept_volume("x"))),
                              why(pool->revert(mine, "1-back"))};
  for (auto& refusal : refusals)
    EXPECT_THAT(refusal, HasSubstr("import operation in progress on 'vg/vm-my-vm-private'"));
  ASSERT_EQ(why(pool->stop(mine)), ""); // undoes a start that was refused
  ASSERT_EQ(why(pool->end_import(mine, false)), "");
  EXPECT_THAT(lvm->names(), ElementsAre("vm-my-vm-private"));
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(why(pool->begin_import(mine, gib)), HasSubstr("dirty volume"));
  EXPECT_THAT(why(pool->import_volume(mine, home, kept_volume("x"))), HasSubstr("dirty volume"));
  EXPECT_THAT(why(pool->revert(mine, "1-back")), HasSubstr("cannot revert dirty volume"));
  auto root = snapshot_of(tpl, "vg/vm-my-vm-root");
  EXPECT_EQ(pool->begin_import(root, 1).error().code, model::errc::not_implemented);
  EXPECT_EQ(why(pool->import_volume(root, home, kept_volume("x"))), "");
}

/// As the stock driver does; the written data may be the only copy.
TEST_F(lvm_thin, an_import_without_end_blocks_only_its_own_volume_and_not_its_removal) {
  auto other = kept_volume("vg/vm-other-private", gib);
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->create(other)), "");
  ASSERT_EQ(why(pool->begin_import(mine, gib)), "");
  for (auto& refusal : {why(pool->start(mine)), why(pool->clear(mine, gib))})
    EXPECT_THAT(refusal, HasSubstr("import operation in progress on 'vg/vm-my-vm-private'; wait "
                                   "for its end; when its writer is gone, a restart of qvmd"));
  run_once(other, "written");
  EXPECT_EQ(committed(other), "written");
  ASSERT_EQ(why(pool->remove(mine)), "");
  EXPECT_THAT(lvm->names(), testing::Each(Not(HasSubstr("my-vm"))));
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->begin_import(mine, gib)), "");
  restart();
  run_once(mine, "after");
  EXPECT_EQ(committed(mine), "after");
}

// -- sizes ----------------------------------------------------------------------------------------

TEST_F(lvm_thin, grows_what_the_guest_sees) {
  ASSERT_EQ(why(pool->create(mine)), "");
  lvm->told();
  ASSERT_EQ(why(pool->resize(mine, 2 * gib)), "");
  EXPECT_THAT(lvm->told(), ElementsAre("lvm lvresize --size=2147483648B -- vg/vm-my-vm-private"));
  ASSERT_EQ(why(pool->resize(mine, 2 * gib)), "");
  EXPECT_THAT(lvm->told(), IsEmpty());
  ASSERT_EQ(why(pool->start(mine)), "");
  ASSERT_EQ(why(pool->resize(mine, 3 * gib)), "");
  EXPECT_EQ(lvm->told().back(), "lvm lvresize --size=3221225472B -- vg/vm-my-vm-private-snap");
  EXPECT_EQ(pool->look(mine)->size, 3 * gib);
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_EQ(pool->look(mine)->size, 3 * gib);
  mine.it.rw = false;
  EXPECT_EQ(pool->resize(mine, 4 * gib).error().code, model::errc::storage);
}

// -- refusals -------------------------------------------------------------------------------------

TEST_F(lvm_thin, is_set_up_on_a_thin_pool_only) {
  EXPECT_EQ(why(pool->set_up()), "");
  lvm->pool_attributes = "-wi-a-----";
  restart();
  EXPECT_THAT(why(pool->set_up()), HasSubstr("'vg/pool' is not a thin pool"));
  auto other = *open_pool(thin_pool("vg", "nothing"), {.commands = lvm});
  EXPECT_THAT(why(other->set_up()), HasSubstr("thin pool 'vg/nothing' does not exist"));
  EXPECT_EQ(other->set_up().error().code, model::errc::storage);
  for (auto name : {"", "-a", "a/b", "a b", "..", "a;b"}) {
    EXPECT_THAT(why(open_pool(thin_pool(name), {.commands = lvm})), HasSubstr("no name of LVM"));
    EXPECT_THAT(why(open_pool(thin_pool("vg", name), {.commands = lvm})),
                HasSubstr("no name of LVM"));
  }
}

TEST_F(lvm_thin, tells_size_and_usage_of_the_pool) {
  auto facts = *pool->facts();
  EXPECT_EQ(facts.size, 1000000000u);
  EXPECT_EQ(facts.usage, 125000000u);
  EXPECT_THAT(facts.details,
              ElementsAre(std::pair{"data_size", 1000000000u}, std::pair{"data_usage", 125000000u},
                          std::pair{"metadata_size", 4194304u},
                          std::pair{"metadata_usage", 1048576u}));
}

TEST_F(lvm_thin, asks_for_a_report_only_after_changes_and_when_it_is_old) {
  (void)pool->look(mine);
  (void)pool->facts();
  EXPECT_EQ(lvm->reports, 1u);
  clock += 31;
  (void)pool->facts();
  EXPECT_EQ(lvm->reports, 2u);
  ASSERT_EQ(why(pool->create(mine)), "");
  EXPECT_EQ(lvm->reports, 2u);
  (void)pool->facts();
  EXPECT_EQ(lvm->reports, 3u);
}

TEST_F(lvm_thin, refuses_ids_that_are_not_of_this_pool) {
  for (auto vid :
       {"", "vm-a", "other/vm-a", "vg/", "vg/a/b", "vg/-f", "vg/a b", "/vm-a", "vg/.."}) {
    auto x = kept_volume(vid);
    EXPECT_THAT(why(pool->create(x)), HasSubstr("no volume id")) << vid;
    EXPECT_THAT(why(pool->remove(x)), HasSubstr("no volume id")) << vid;
    EXPECT_FALSE(pool->is_dirty(x));
  }
  EXPECT_THAT(lvm->told(), IsEmpty());
}

TEST_F(lvm_thin, refuses_to_create_over_what_is_there) {
  for (auto suffix : {"", "-snap", "-1700000000-back"}) {
    lvm->volumes.clear();
    lvm->volumes[mine.it.vid + suffix] = {};
    restart();
    EXPECT_THAT(why(pool->create(mine)), HasSubstr("there already"));
  }
}

TEST_F(lvm_thin, names_volumes_that_are_missing) {
  EXPECT_THAT(why(pool->verify(mine)), HasSubstr("'vg/vm-my-vm-private' is missing"));
  EXPECT_THAT(why(pool->start(mine)), HasSubstr("is missing"));
  EXPECT_THAT(why(pool->begin_export(mine)), HasSubstr("is missing"));
  EXPECT_THAT(why(pool->resize(mine, gib)), HasSubstr("is missing"));
  auto root = snapshot_of(tpl, "vg/vm-my-vm-root");
  EXPECT_THAT(why(pool->verify(root)), HasSubstr("'vg/vm-tpl-root' is missing"));
  EXPECT_THAT(why(pool->start(root)), HasSubstr("'vg/vm-tpl-root' is missing"));
  root.origin.reset();
  EXPECT_THAT(why(pool->start(root)), HasSubstr("which is not there"));
  EXPECT_EQ(why(pool->stop(mine)), "");
}

TEST_F(lvm_thin, quotes_errors_of_lvm_without_its_warnings) {
  lvm->fail_at = 0;
  auto done = pool->create(mine);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, model::errc::storage);
  EXPECT_EQ(done.error().text, "'lvm lvcreate' failed: I/O error");
}

TEST_F(lvm_thin, reads_reports_beside_warnings_and_refuses_other_text) {
  lvm->noise = "  WARNING: Device /dev/loop0 has no PV\n";
  EXPECT_EQ(why(pool->set_up()), "");
  for (auto text :
       {"", "[]", "{", R"({"report":1})", R"({"report":[1]})", R"({"report":[{"lv":1}]})",
        R"({"report":[{"lv":[1]}]})", R"({"report":[{"lv":[{"lv_name":7}]}]})"})
    EXPECT_THAT(why(parse_lvm_report(text)), HasSubstr("not understood")) << text;
  EXPECT_TRUE(parse_lvm_report(R"({"report":[]})"));
}

TEST_F(lvm_thin, has_a_usage_between_zero_and_its_size_for_any_report) {
  for (auto [percent, used] : {std::pair{"25.00", 256u},
                               {"100.00", 1024u},
                               {"1e300", 1024u},
                               {"inf", 1024u},
                               {"-1.00", 0u},
                               {"nan", 0u},
                               {"", 0u}}) {
    auto all = parse_lvm_report(
        fmt::format(R"({{"report":[{{"lv":[{{"vg_name":"vg","lv_name":"a","lv_size":"1024B",)"
                    R"("data_percent":"{}"}}]}}]}})",
                    percent));
    ASSERT_TRUE(all) << percent;
    EXPECT_EQ(all->at("vg/a").usage(), used) << percent;
  }
}

// -- crashes --------------------------------------------------------------------------------------

namespace {

/// A host with a volume that was written three times, and one operation on it.
struct attempt : host {
  attempt() {
    mine.it.revisions_to_keep = 2;
    EXPECT_EQ(why(pool->create(mine)), "");
    run_once(mine, "one");
    run_once(mine, "two");
    run_once(mine, "old");
    EXPECT_EQ(why(pool->create(theirs)), "");
    lvm->data(theirs.it.vid) = "new";
    lvm->files["/elsewhere"] = "new";
  }

  volume mine = kept_volume("vg/vm-my-vm-private", gib);
  volume theirs = kept_volume("vg/vm-other-private", gib);
  elsewhere home;

  fake_tool& tool() { return *lvm; }

  /// Only the volume and its revisions are left, and no more revisions than wanted.
  void expect_rest(const operation<attempt>& op) {
    EXPECT_THAT(op.states, testing::Contains(committed(mine)));
    auto kept = revisions(mine);
    for (auto& y : op.revisions)
      EXPECT_THAT(kept, testing::Contains(y));
    EXPECT_LE(static_cast<std::int64_t>(kept.size()),
              std::max(mine.it.revisions_to_keep, std::int64_t{0}));
    EXPECT_THAT(kept, Not(testing::Contains("")));
    auto left = lvm->names();
    std::erase_if(left, [](auto& name) { return name.ends_with("-back"); });
    EXPECT_THAT(left, ElementsAre("vm-my-vm-private", "vm-other-private"));
    EXPECT_EQ(lvm->data(theirs.it.vid), "new");
  }
};

const operations_on<attempt>& operations() {
  static const auto nothing = [](attempt&) {};
  static const auto written = [](attempt& x) {
    ASSERT_EQ(why(x.pool->start(x.mine)), "");
    x.lvm->data(x.mine.it.vid + "-snap") = "new";
  };
  static const auto imported = [](attempt& x) {
    ASSERT_EQ(why(x.pool->begin_import(x.mine, gib)), "");
    x.lvm->data(x.mine.it.vid + "-import") = "new";
  };
  // clang-format off
  static const auto all = operations_on<attempt>{
      {"start", nothing, [](attempt& x) { return x.pool->start(x.mine); }, {"old"}, {"two"}},
      {"stop", written, [](attempt& x) { return x.pool->stop(x.mine); }, {"new"}, {"two"}},
      {"stop keeping none", [](attempt& x) { x.mine.it.revisions_to_keep = 0; written(x); },
       [](attempt& x) { return x.pool->stop(x.mine); }, {"new"}, {}},
      {"revert", nothing, [](attempt& x) { return x.pool->revert(x.mine, "1700000100-back"); },
       {"old", "one"}, {"one", "two"}},
      {"revert to the newest", nothing,
       [](attempt& x) { return x.pool->revert(x.mine, "1700000200-back"); },
       {"old", "two"}, {"one", "two"}},
      {"begin import", nothing,
       [](attempt& x) { return x.pool->begin_import(x.mine, gib).map([](auto&&) {}); },
       {"old"}, {"one", "two"}},
      {"end import", imported, [](attempt& x) { return x.pool->end_import(x.mine, true); },
       {"old", "new"}, {"two"}},
      {"forget import", imported, [](attempt& x) { return x.pool->end_import(x.mine, false); },
       {"old"}, {"one", "two"}},
      {"copy", nothing, [](attempt& x) { return x.pool->import_volume(x.mine, x.home, x.theirs); },
       {"old", "new"}, {"two"}},
      {"clone", nothing, [](attempt& x) { return x.pool->import_volume(x.mine, *x.pool, x.theirs); },
       {"old", "new"}, {"two"}},
      {"resize", nothing, [](attempt& x) { return x.pool->resize(x.mine, 2 * gib); },
       {"old"}, {"one", "two"}},
      {"start in place", [](attempt& x) { x.mine.it.revisions_to_keep = -1; },
       [](attempt& x) { return x.pool->start(x.mine); }, {"old"}, {}},
  };
  // clang-format on
  return all;
}

} // namespace

TEST(lvm_thin_crash, at_every_command_leaves_the_old_state_or_the_new_and_the_next_stop_tidies_up) {
  auto kills = rest_after_kills(operations());
  RecordProperty("kills", kills);
  EXPECT_GE(kills, 35);
}

TEST(lvm_thin_crash, a_start_without_a_stop_goes_on_as_well) {
  EXPECT_GE(starts_after_kills(operations()), 35);
}

TEST(lvm_thin_crash, while_repairing_is_repaired_as_well) {
  rest_after_two_kills(operations());
}

TEST(lvm_thin_failure, of_any_command_changes_nothing_or_is_made_good_by_the_next_stop) {
  EXPECT_GE(rest_after_failures(operations()), 20);
}

TEST(lvm_thin_crash, of_the_stock_daemon_between_removing_and_cloning_a_revert_is_finished) {
  auto x = attempt{};
  x.lvm->volumes.erase(x.mine.it.vid);
  x.restart();
  EXPECT_EQ(x.committed(x.mine), "two");
  ASSERT_EQ(why(x.pool->stop(x.mine)), "");
  EXPECT_EQ(x.lvm->data(x.mine.it.vid), "two");
  EXPECT_THAT(x.revisions(x.mine), ElementsAre("one", "two"));
}

TEST(lvm_thin_crash, during_an_import_to_a_volume_that_vanished_does_not_pass_for_data) {
  auto x = attempt{};
  std::erase_if(x.lvm->volumes, [](auto& y) { return y.first.starts_with("vg/vm-my"); });
  x.restart();
  ASSERT_EQ(why(x.pool->begin_import(x.mine, gib)), "");
  x.lvm->data(x.mine.it.vid + "-import") = "half";
  x.restart();
  ASSERT_EQ(why(x.pool->stop(x.mine)), "");
  EXPECT_THAT(x.lvm->names(), ElementsAre("vm-other-private"));
}

} // namespace qubes::tests
