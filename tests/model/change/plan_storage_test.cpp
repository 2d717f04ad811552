// What clients may say of volumes and pools (spec/admin-api.md B4, B6, C2).
#include "model/change/plan_storage.hpp"
#include "model/storage/pool_options.hpp"
#include "model/storage/volume.hpp"
#include "tests/model/sample_system.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace qubes;
using namespace qubes::model;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using tests::sample_system;

namespace {

struct storage_plans : testing::Test {
  sample_system at;

  storage_plans() {
    auto at_home = pool{};
    at_home.name = "old";
    at_home.driver = "file";
    at_home.attributes = {{"name", "old"}, {"dir_path", "/o"}, {"driver", "file"}};
    auto big = at_home;
    big.name = "big";
    big.driver = "file-reflink";
    at.make({{add_pool{at_home}, add_pool{big}}});
    auto scratch = volume{};
    scratch.name = "volatile";
    scratch.pool = "varlibqubes";
    scratch.vid = "appvms/work/volatile";
    scratch.rw = true;
    auto in_old = scratch;
    in_old.name = "attic";
    in_old.pool = "old";
    in_old.vid = "appvms/work/attic";
    in_old.save_on_stop = true;
    auto work = at["work"];
    work.volumes.push_back(scratch);
    work.volumes.push_back(in_old);
    auto in_big = in_old;
    in_big.name = "hall";
    in_big.pool = "big";
    in_big.vid = "appvms/work/hall";
    work.volumes.push_back(in_big);
    at.system.put(std::make_shared<domain>(std::move(work)));
  }

  static errc code(const plan& x) { return x.refusal ? x.refusal->code : errc::none; }

  /// The volume of `work` once the plan is carried out.
  volume after(const plan& x, std::string_view name) const {
    EXPECT_FALSE(x.refusal) << x.refusal->text;
    auto next = apply(at.system, at.machine, x.what);
    EXPECT_TRUE(next) << next.error().text;
    return *next->find("work")->find_volume(name);
  }
  plan revisions(std::string_view volume, std::string_view text) const {
    return plan_set_volume_revisions(at.view(), at["work"], volume, text);
  }
};

} // namespace

// -- numbers ------------------------------------------------------------------------------------

TEST(numbers_of_clients, are_plain_decimal_digits) {
  for (auto x :
       {"", "x", "1x", " 1", "1 ", "01", "+1", "-1", "1_0", "0x1", "1.0", "99999999999999999999"})
    EXPECT_EQ(parse_count(x, "number").error().code, errc::protocol) << x;
  EXPECT_EQ(parse_count("0", "number"), 0);
  EXPECT_EQ(parse_count("120", "number"), 120);
  EXPECT_EQ(parse_count("-5", "number", true), -5);
  EXPECT_EQ(parse_count("-0", "number", true), 0);
  EXPECT_FALSE(parse_count("-01", "number", true));
  EXPECT_FALSE(parse_count("--1", "number", true));
  EXPECT_THAT(parse_count("abc", "number of revisions").error().text,
              HasSubstr("'abc' is no number of revisions"));
  EXPECT_EQ(parse_size(" 4096\n", "volume size"), 4096U);
  EXPECT_FALSE(parse_size("40 96", "volume size"));
}

// -- volumes ------------------------------------------------------------------------------------

TEST_F(storage_plans, revisions_may_be_kept_or_not) {
  EXPECT_EQ(after(revisions("hall", "7"), "hall").revisions_to_keep, 7);
  EXPECT_EQ(after(revisions("private", "-1"), "private").revisions_to_keep, -1);
  EXPECT_TRUE(
      revisions("private", fmt::format("{}", at["work"].find_volume("private")->revisions_to_keep))
          .what.empty())
      << "what is so already is not written";
  EXPECT_EQ(code(revisions("private", "-2")), errc::value);
  EXPECT_EQ(code(revisions("private", " 2")), errc::protocol);
  EXPECT_EQ(code(revisions("kernel", "1")), errc::value);
  EXPECT_EQ(code(revisions("kernel", "0")), errc::none);
  EXPECT_EQ(code(revisions("attic", "2")), errc::not_implemented) << "the file driver keeps one";
  EXPECT_EQ(code(revisions("nosuch", "1")), errc::permission_denied);
}

TEST_F(storage_plans, snapshots_are_switched_off_and_on_only_while_the_domain_is_halted) {
  at.live("work", power::running);
  EXPECT_EQ(code(revisions("private", "-1")), errc::vm_not_halted);
  EXPECT_EQ(code(revisions("hall", "3")), errc::none);
  EXPECT_EQ(code(revisions("volatile", "-1")), errc::vm_not_halted);
  at.live("disp1", power::running);
  EXPECT_EQ(code(plan_set_volume_revisions(at.view(), at["dvm"], "private", "-1")),
            errc::vm_not_halted)
      << "a disposable works on a snapshot of it";
}

TEST_F(storage_plans, writing_is_allowed_or_not) {
  auto set = [&](std::string_view volume, std::string_view text) {
    return plan_set_volume_rw(at.view(), at["work"], volume, text);
  };
  EXPECT_FALSE(after(set("private", "no"), "private").rw);
  EXPECT_TRUE(after(set("private", "TRUE"), "private").rw);
  EXPECT_EQ(code(set("private", "")), errc::protocol);
  EXPECT_EQ(code(set("private", "maybe")), errc::protocol);
  EXPECT_EQ(code(set("kernel", "yes")), errc::value);
  EXPECT_EQ(code(set("kernel", "no")), errc::none);
  EXPECT_EQ(code(set("nosuch", "no")), errc::permission_denied);
  at.live("work", power::running);
  EXPECT_EQ(code(set("private", "no")), errc::vm_not_halted);
}

TEST_F(storage_plans, only_scratch_space_is_ephemeral) {
  auto set = [&](std::string_view volume, std::string_view text) {
    return plan_set_volume_ephemeral(at.view(), at["work"], volume, text);
  };
  EXPECT_EQ(after(set("volatile", "on"), "volatile").ephemeral, true);
  EXPECT_EQ(after(set("private", "0"), "private").ephemeral, false);
  EXPECT_EQ(code(set("private", "1")), errc::value);
  EXPECT_EQ(code(set("root", "1")), errc::value);
  EXPECT_EQ(code(set("kernel", "0")), errc::value);
  EXPECT_EQ(code(set("volatile", "2")), errc::protocol);
  EXPECT_EQ(code(set("nosuch", "1")), errc::permission_denied);
}

TEST_F(storage_plans, the_pool_decides_what_is_ephemeral_unless_the_volume_does) {
  auto scratch = *at["work"].find_volume("volatile");
  EXPECT_FALSE(is_ephemeral(at.system, scratch));
  at.make(plan_set_pool_ephemeral(at.view(), "varlibqubes", "yes").what);
  EXPECT_TRUE(is_ephemeral(at.system, scratch));
  EXPECT_FALSE(is_ephemeral(at.system, *at["work"].find_volume("private")));
  scratch.ephemeral = false;
  EXPECT_FALSE(is_ephemeral(at.system, scratch));
}

TEST_F(storage_plans, a_size_is_remembered) {
  EXPECT_EQ(after(plan_set_volume_size(at.view(), at["work"], "private", 9 << 20), "private").size,
            9U << 20);
}

// -- pools --------------------------------------------------------------------------------------

TEST_F(storage_plans, a_pool_is_described_one_option_a_line) {
  auto x = parse_pool("file-reflink", "name=big\nrevisions_to_keep=3\r\ndir_path=/srv/a b=c");
  ASSERT_TRUE(x) << x.error().text;
  EXPECT_EQ(x->name, "big");
  EXPECT_EQ(x->driver, "file-reflink");
  EXPECT_THAT(x->attributes,
              ElementsAre(Pair("name", "big"), Pair("revisions_to_keep", "3"),
                          Pair("dir_path", "/srv/a b=c"), Pair("driver", "file-reflink"),
                          Pair("ephemeral_volatile", "False")));
  EXPECT_EQ(parse_pool("file", "name=a\ndir_path=/x")->attribute("revisions_to_keep"), "1");
}

TEST_F(storage_plans, a_pool_that_is_badly_described_is_refused) {
  struct refusal {
    std::string_view driver;
    std::string_view payload;
    errc code;
    std::string_view named;
  };
  constexpr refusal table[]{
      {"btrfs", "name=a", errc::permission_denied, "file-reflink"},
      {"file", "", errc::protocol, "name"},
      {"file", "dir_path=/x", errc::protocol, "name"},
      {"file", "name=a\ndir_path", errc::protocol, "KEY=VALUE"},
      {"file", "name=a\nname=b\ndir_path=/x", errc::protocol, "twice"},
      {"file", "name=a\n\ndir_path=/x", errc::protocol, "KEY=VALUE"},
      {"file", "name=a\ndir_path=/x\x01", errc::protocol, "printed"},
      {"file", "name=../a\ndir_path=/x", errc::protocol, "../a"},
      {"file", "name=a b\ndir_path=/x", errc::protocol, "a b"},
      {"file", "name=a\ndir_path=/x\nvolume_group=v", errc::protocol, "volume_group"},
      {"file", "name=a", errc::general, "dir_path"},
      {"lvm_thin", "name=a\nvolume_group=v", errc::general, "thin_pool"},
      {"file", "name=a\ndir_path=/x\nrevisions_to_keep=2", errc::value, "2"},
      {"file-reflink", "name=a\ndir_path=/x\nrevisions_to_keep=-2", errc::value, "-2"},
      {"file-reflink", "name=a\ndir_path=/x\nephemeral_volatile=x", errc::value, "'x'"},
      {"file", "name=\xc3\xa4\ndir_path=/x", errc::protocol, "ASCII"},
  };
  for (auto& x : table) {
    auto got = parse_pool(x.driver, x.payload);
    ASSERT_FALSE(got) << x.payload;
    EXPECT_EQ(got.error().code, x.code) << x.payload << ": " << got.error().message();
    EXPECT_THAT(got.error().message(), HasSubstr(x.named)) << x.payload;
  }
}

TEST_F(storage_plans, pools_come_and_go_with_their_events) {
  auto add = plan_add_pool(at.view(), *parse_pool("file", "name=new\ndir_path=/n"));
  ASSERT_FALSE(add.refusal);
  EXPECT_THAT(add.before, IsEmpty());
  ASSERT_EQ(add.after.size(), 1U);
  EXPECT_EQ(add.after[0].name, "pool-add");
  EXPECT_THAT(add.after[0].args, ElementsAre(Pair("pool", "new")));
  at.make(add.what);
  EXPECT_EQ(code(plan_add_pool(at.view(), *at.system.find_pool("new"))), errc::pool_in_use);
  auto gone = plan_remove_pool(at.view(), "new");
  ASSERT_FALSE(gone.refusal);
  EXPECT_EQ(gone.before.at(0).name, "pool-pre-delete");
  EXPECT_EQ(gone.after.at(0).name, "pool-delete");
  at.make(gone.what);
  EXPECT_FALSE(at.system.find_pool("new"));
  EXPECT_EQ(code(plan_remove_pool(at.view(), "new")), errc::permission_denied);
}

TEST_F(storage_plans, a_refused_removal_of_a_pool_names_ten_users_and_counts_the_others) {
  auto refused = plan_remove_pool(at.view(), "varlibqubes");
  EXPECT_EQ(code(refused), errc::pool_in_use);
  EXPECT_THAT(refused.refusal->message(), HasSubstr("default_pool"));
  EXPECT_THAT(refused.refusal->message(), HasSubstr("disp1:private and 15 more; move or remove"));
  EXPECT_THAT(plan_remove_pool(at.view(), "old").refusal->message(), HasSubstr("work:attic"));
}

TEST_F(storage_plans, a_pool_has_a_number_of_revisions_to_keep) {
  auto set = [&](std::string_view pool, std::string_view text) {
    return plan_set_pool_revisions(at.view(), pool, text);
  };
  EXPECT_EQ(code(set("old", "2")), errc::not_implemented);
  EXPECT_EQ(code(set("old", "-2")), errc::protocol);
  EXPECT_EQ(code(set("old", "many")), errc::protocol);
  EXPECT_EQ(code(set("nosuch", "1")), errc::permission_denied);
  EXPECT_EQ(code(set("linux-kernel", "1")), errc::value);
  EXPECT_EQ(code(set("linux-kernel", "0")), errc::none);
  auto fine = set("old", "0");
  ASSERT_FALSE(fine.refusal);
  at.make(fine.what);
  EXPECT_EQ(at.system.find_pool("old")->attribute("revisions_to_keep"), "0");
  EXPECT_EQ(code(plan_set_pool_ephemeral(at.view(), "old", "perhaps")), errc::protocol);
  EXPECT_EQ(code(plan_set_pool_ephemeral(at.view(), "nosuch", "1")), errc::permission_denied);
}
