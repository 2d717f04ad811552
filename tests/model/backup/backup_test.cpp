#include "tests/model/sample_system.hpp"

#include "model/backup/backup_contents.hpp"
#include "model/backup/backup_profile.hpp"
#include "model/backup/backup_summary.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace qubes;
using namespace qubes::model;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

namespace {

constexpr auto places = std::string_view{"destination_vm: dom0\ndestination_path: /b\n"};

struct backups : testing::Test {
  tests::sample_system at;

  outcome<backup_profile> read(std::string_view rest) const {
    return parse_backup_profile(at.system, std::string{places} + std::string{rest});
  }
  std::vector<std::string> chosen(std::string_view rest) const {
    auto result = std::vector<std::string>{};
    for (auto* x : chosen_for_backup(at.view(), read(rest).value()))
      result.push_back(x->name);
    return result;
  }
  std::string why(std::string_view text) const {
    auto x = parse_backup_profile(at.system, text);
    EXPECT_FALSE(x) << text;
    return x ? "" : x.error().message();
  }
};

} // namespace

TEST_F(backups, take_what_their_profile_names) {
  at.make({{add_tag{"vault", "corp"}}});
  EXPECT_THAT(chosen("include: [work, '$tag:corp', nobody]"), ElementsAre("work", "vault"));
  EXPECT_THAT(chosen("include: ['@type:TemplateVM']\nexclude: [fedora]"), ElementsAre("debian"));
  EXPECT_THAT(chosen("include: []"), IsEmpty());
  at.make({{set_property{"work", "include_in_backups", false}}});
  auto usual = chosen("include:");
  EXPECT_THAT(usual, testing::Contains("vault"));
  EXPECT_THAT(usual, Not(testing::Contains("work")));
  EXPECT_THAT(usual, Not(testing::Contains("far")));
}

TEST_F(backups, know_how_to_compress) {
  EXPECT_EQ(read("include:")->compression, "gzip");
  EXPECT_EQ(read("include:\ncompression: no")->compression, "");
  EXPECT_EQ(read("include:\ncompression: zstd")->compression, "zstd");
}

TEST_F(backups, are_refused_in_one_line_without_control_characters) {
  EXPECT_THAT(why("include: *a\x1b[2J\n"), Not(HasSubstr("\x1b")));
}

TEST_F(backups, name_what_is_wrong_with_a_profile) {
  EXPECT_THAT(why("include:"), HasSubstr("destination_vm"));
  EXPECT_THAT(why("destination_vm: dom0\ninclude:"), HasSubstr("destination_path"));
  EXPECT_THAT(why(places), HasSubstr("include"));
  EXPECT_THAT(why("destination_vm: nobody\ndestination_path: /\ninclude:"), HasSubstr("nobody"));
  EXPECT_THAT(why(std::string{places} + "include: work"), HasSubstr("list"));
  EXPECT_THAT(why(std::string{places} + "include: [[a]]"), HasSubstr("texts"));
  EXPECT_THAT(why("{"), HasSubstr("profile"));
  EXPECT_THAT(why("just text"), HasSubstr("KEY"));
  EXPECT_THAT(why("[a]"), HasSubstr("KEY"));
  EXPECT_THAT(why(""), HasSubstr("KEY"));
}

TEST_F(backups, need_a_source_of_the_passphrase) {
  auto known = [&](std::string_view rest) {
    return check_passphrase(at.system, read(std::string{"include:\n"} + std::string{rest}).value())
        .has_value();
  };
  EXPECT_TRUE(known("passphrase_text: secret"));
  EXPECT_TRUE(known("passphrase_vm: vault"));
  EXPECT_FALSE(known("passphrase_vm: nobody"));
  EXPECT_FALSE(known(""));
}

TEST_F(backups, profiles_have_plain_names) {
  EXPECT_TRUE(check_profile_name("daily"));
  EXPECT_FALSE(check_profile_name("../etc"));
  EXPECT_FALSE(check_profile_name("a/b"));
  EXPECT_FALSE(check_profile_name(std::string_view{"a\0b", 3}));
}

TEST_F(backups, are_summed_up_in_a_table) {
  at.live("work", power::running);
  auto text = backup_summary(
      at.view(), {{"work", 8192}, {"debian", 3 << 20}, {"alone", 12}, {"gone", 5}, {"vault", 0}});
  EXPECT_THAT(text, testing::StartsWith(
                        "------------------+--------------+--------------+\n"
                        "               VM |         type |         size |\n"
                        "------------------+--------------+--------------+\n"
                        "             work |           VM |      8.0 KiB | <-- The VM is running, "
                        "backup will contain its state from before its start!\n"
                        "           debian |  Template VM |      3.0 MiB |\n"
                        "            alone |     VM + Sys |           12 |\n"
                        "            vault |           VM |            0 |\n"
                        "------------------+--------------+--------------+\n"
                        "      Total size: |                     3.0 MiB |\n"
                        "------------------+--------------+--------------+\n"
                        "VMs not selected for backup:\n"
                        " - disp1\n"
                        " - dom0\n"));
  EXPECT_THAT(text, testing::EndsWith(" - sys-vpn\n"));
}

TEST_F(backups, name_words_of_their_profile_that_match_nothing) {
  auto profile = read(std::string{places}
                      + "include: [work, wrok, '@tag:none', '@type:AppVM', '@type:Appvm']\n"
                        "exclude: [valt]\npassphrase_text: x");
  ASSERT_TRUE(profile);
  auto idle = words_without_effect(at.system, *profile);
  EXPECT_THAT(idle, ElementsAre("wrok", "@tag:none", "@type:Appvm", "valt"));
  EXPECT_THAT(backup_summary(at.view(), {}, idle), testing::EndsWith(" - 'valt'\n"));
}

TEST_F(backups, hold_the_volumes_whose_data_outlives_a_stop) {
  EXPECT_THAT(volumes_in_backup(at["work"]), ElementsAre("private"));
  EXPECT_THAT(volumes_in_backup(at["debian"]), testing::UnorderedElementsAre("root", "private"));
  EXPECT_THAT(volumes_in_backup(at["far"]), IsEmpty());
}

TEST_F(backups, list_each_domain_and_whether_they_hold_its_data) {
  at.make({{set_feature{"dvm", "preload-dispvm", "disp1"},
            set_feature{"dvm", "preload-dispvm-max", "1"}}});
  auto listing = with_contents(at.system, {{"dvm", "vm7/", 5}});
  auto text = [&](std::string_view who, std::string_view feature) {
    auto* found = listing.find(who)->features.find(feature);
    return found ? *found : "none";
  };
  EXPECT_EQ(text("dvm", "backup-content"), "1");
  EXPECT_EQ(text("dvm", "backup-path"), "vm7/");
  EXPECT_EQ(text("dvm", "backup-size"), "5");
  EXPECT_EQ(text("dvm", "preload-dispvm"), "none");
  EXPECT_EQ(text("dvm", "preload-dispvm-max"), "1");
  EXPECT_EQ(text("work", "backup-content"), "");
  EXPECT_EQ(text("work", "backup-path"), "none");
  EXPECT_EQ(path_in_backup(at["dom0"], "/home/user"), "dom0-home/user");
}

TEST_F(backups, take_a_passphrase_of_one_line) {
  EXPECT_EQ(parse_passphrase("a b"), "a b");
  EXPECT_EQ(parse_passphrase("a\nb").error().code, errc::protocol);
  EXPECT_EQ(parse_passphrase(std::string_view{"a\0b", 3}).error().code, errc::protocol);
  EXPECT_EQ(parse_passphrase(std::string(1025, 'x')).error().code, errc::protocol);
  EXPECT_FALSE(parse_passphrase(""));
}
