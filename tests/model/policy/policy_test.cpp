#include "model/policy/policy.hpp"

#include "tests/model/sample_system.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

namespace qubes::model {

namespace {

using namespace std::string_view_literals;

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using tests::sample_system;

/// Files by path, below /etc/policy.d unless the path begins with a slash.
using files = std::map<std::string, std::string>;

policy read(const files& all, std::vector<std::string> directories = {"/etc/policy.d"}) {
  auto from = policy_files{};
  from.read = [&](const std::string& path) -> outcome<std::string> {
    auto it = all.find(path);
    if (it == all.end())
      return fail(errc::general, path + ": No such file or directory");
    return it->second;
  };
  from.list = [&](const std::string& path) -> outcome<std::optional<std::vector<std::string>>> {
    auto names = std::vector<std::string>{};
    auto there = false;
    for (auto& [name, text] : all)
      if (name.starts_with(path + '/')) {
        there = true;
        if (name.find('/', path.size() + 1) == name.npos)
          names.push_back(name.substr(path.size() + 1));
      }
    if (!there)
      return std::nullopt;
    return names;
  };
  return read_policy(from, {std::move(directories), "/etc/legacy"});
}

policy read(const std::string& text) {
  return read(files{{"/etc/policy.d/30-test.policy", text}});
}

bool allows(const sample_system& at, const policy& all, std::string_view source,
            std::string_view target, std::string_view service = "s",
            std::string_view argument = "a") {
  return policy_filter{all, at.view(), service, argument, at[source]}.allows(
      at.system.find(target));
}

/// One rule that allows, and whether it lets `source` call s+a at `target`.
struct rule_case {
  std::string_view rule, source, target;
  bool fits;
};

void PrintTo(const rule_case& x, std::ostream* to) {
  *to << x.rule << ": " << x.source << " -> " << x.target;
}

} // namespace

struct policy_rules_fit : ::testing::TestWithParam<rule_case> {};

TEST_P(policy_rules_fit, the_parties_that_they_name) {
  auto at = sample_system{};
  at.make({{add_tag{"work", "corp"}}});
  auto& [rule, source, target, fits] = GetParam();
  auto all = read(std::string{rule});
  EXPECT_THAT(all.findings, IsEmpty());
  EXPECT_EQ(allows(at, all, source, target), fits);
}

INSTANTIATE_TEST_SUITE_P(
    table, policy_rules_fit,
    ::testing::Values(
        rule_case{"s +a work vault allow", "work", "vault", true},
        rule_case{"s +a work vault allow", "vault", "work", false},
        rule_case{"  s\t+a  work   vault \t allow  ", "work", "vault", true},
        rule_case{"s * work vault allow", "work", "vault", true},
        rule_case{"* * work vault allow", "work", "vault", true},
        rule_case{"s + work vault allow", "work", "vault", false},
        rule_case{"s +ab work vault allow", "work", "vault", false},
        rule_case{"S +a work vault allow", "work", "vault", false},
        rule_case{"s +a * * allow", "work", "dom0", true},
        rule_case{"s +a @anyvm @anyvm allow", "work", "vault", true},
        rule_case{"s +a @anyvm @anyvm allow", "work", "dom0", false},
        rule_case{"s +a @anyvm @anyvm allow", "dom0", "vault", false},
        rule_case{"s +a work @adminvm allow", "work", "dom0", true},
        rule_case{"s +a work dom0 allow", "work", "dom0", true},
        rule_case{"s +a work uuid:00000000-0000-0000-0000-000000000000 allow", "work", "dom0",
                  true},
        rule_case{"s +a work @adminvm allow", "work", "vault", false},
        rule_case{"s +a @tag:corp vault allow", "work", "vault", true},
        rule_case{"s +a @tag:corp vault allow", "vault", "vault", false},
        rule_case{"s +a vault @tag:corp allow", "vault", "work", true},
        rule_case{"s +a vault @type:TemplateVM allow", "vault", "debian", true},
        rule_case{"s +a vault @type:TemplateVM allow", "vault", "work", false},
        rule_case{"s +a far @type:RemoteVM allow", "far", "far", true},
        rule_case{"s +a vault uuid:00000006-0000-4000-8000-000000000006 allow", "vault", "work",
                  true},
        rule_case{"s +a uuid:00000006-0000-4000-8000-000000000006 vault allow", "vault", "vault",
                  false},
        rule_case{"s +a work @default allow target=vault", "work", "vault", false},
        rule_case{"s +a work @default allow target=vault", "work", "nobody", true},
        rule_case{"s +a work @anyvm allow target=dom0", "work", "nobody", true},
        rule_case{"s +a work @anyvm allow", "work", "nobody", false},
        rule_case{"s +a work @dispvm allow", "work", "dvm", false},
        rule_case{"s +a work @dispvm:dvm allow", "work", "dvm", false},
        rule_case{"s +a work vault ask", "work", "vault", false},
        rule_case{"s +a work vault deny", "work", "vault", false},
        rule_case{"s +a work vault deny notify=no", "work", "vault", false},
        rule_case{"s +a work vault allow target=@adminvm user=root notify=yes", "work", "vault",
                  true},
        rule_case{"s +a work vault allow target=nobody", "work", "vault", false},
        rule_case{"s +a work vault allow target=@dispvm", "work", "vault", true},
        rule_case{"s +a work vault allow target=@dispvm:dvm", "work", "vault", true},
        rule_case{"s +a work vault allow target=@dispvm:debian", "work", "vault", false},
        rule_case{"s +a work vault allow autostart=no", "work", "vault", false},
        rule_case{"s +a work dom0 allow autostart=no", "work", "dom0", true},
        rule_case{"# s +a work vault allow", "work", "vault", false},
        rule_case{"s +a work vault deny\ns +a work vault allow", "work", "vault", false},
        rule_case{"s +a work vault allow\n* * * * deny", "work", "vault", true},
        rule_case{"", "work", "vault", false}));

/// A line that denies everything from its place on; the finding says why.
struct damage_case {
  std::string text, says;
};

struct policy_damage : ::testing::TestWithParam<damage_case> {};

TEST_P(policy_damage, denies_the_rules_after_it_and_keeps_those_before_it) {
  auto at = sample_system{};
  auto all = read("s +a work vault allow\n" + GetParam().text + "\n* * * * allow\n");
  ASSERT_THAT(all.findings, SizeIs(1)) << GetParam().text;
  EXPECT_THAT(all.findings[0].text, HasSubstr(GetParam().says));
  EXPECT_THAT(all.findings[0].where, HasSubstr("30-test.policy:2"));
  EXPECT_TRUE(allows(at, all, "work", "vault"));
  EXPECT_FALSE(allows(at, all, "vault", "work"));
}

INSTANTIATE_TEST_SUITE_P(
    table, policy_damage,
    ::testing::Values(damage_case{"s +a work vault", "too short"}, damage_case{"s", "too short"},
                      damage_case{"s +a work vault permit", "'permit' is no action"},
                      damage_case{"s a work vault allow", "'a' is no argument"},
                      damage_case{"s+a * work vault allow", "'s+a' is no service"},
                      damage_case{"s/t * work vault allow", "no service"},
                      damage_case{"* +a work vault allow", "any service takes any argument"},
                      damage_case{"s * @default vault allow", "'@default' is no source"},
                      damage_case{"s * @dispvm vault allow", "'@dispvm' is no source"},
                      damage_case{"s * @nosuch vault allow", "'@nosuch' is no source"},
                      damage_case{"s * @tag: vault allow", "'@tag:' is no source"},
                      damage_case{"s * work @tag:@x allow", "is no target"},
                      damage_case{"s * work @dispvm:@type:x allow", "is no target"},
                      damage_case{"s * work vault allow target=@anyvm", "is no target="},
                      damage_case{"s * work vault allow target=", "is no target="},
                      damage_case{"s * work vault allow user", "'user' is no parameter"},
                      damage_case{"s * work vault allow user=a user=b", "twice"},
                      damage_case{"s * work vault allow default_target=vault", "no parameter"},
                      damage_case{"s * work vault deny target=vault", "no parameter"},
                      damage_case{"s * work vault allow notify=maybe", "neither yes nor no"},
                      damage_case{"s * work @default allow", "leads nowhere"},
                      damage_case{"s * work vault allow # why", "'#' is no parameter"},
                      damage_case{"s * w\xffrk vault allow", "no UTF-8"},
                      damage_case{"# w\xf6rk", "no UTF-8"},
                      damage_case{"!include", "stands for nothing"},
                      damage_case{"!include nosuch", "No such file"},
                      damage_case{"!include 30-test.policy", "includes itself"},
                      damage_case{"!include-dir nosuch", "no directory"},
                      damage_case{"!include-service s * nosuch", "No such file"},
                      damage_case{"!include-service * +a nosuch", "any argument"},
                      damage_case{"!frobnicate", "stands for nothing"},
                      damage_case{"!compat-4.0 x", "stands for nothing"}));

TEST(policy_files, come_in_byte_order_and_others_are_left_alone) {
  auto at = sample_system{};
  auto all = read({{"/etc/policy.d/40-b.policy", "s * work vault allow"},
                   {"/etc/policy.d/30-a.policy", "s * work work allow"},
                   {"/etc/policy.d/.20-hidden.policy", "nonsense"},
                   {"/etc/policy.d/30-a.policy.rpmsave", "nonsense"},
                   {"/etc/policy.d/README", "nonsense"},
                   {"/etc/policy.d/35-c.policy", "s * work * deny"}});
  EXPECT_THAT(all.findings, IsEmpty());
  EXPECT_TRUE(allows(at, all, "work", "work"));
  EXPECT_FALSE(allows(at, all, "work", "vault"));
}

TEST(policy_files, with_a_bad_name_deny_from_there_on) {
  auto at = sample_system{};
  auto all = read({{"/etc/policy.d/30-a.policy", "s * work work allow"},
                   {"/etc/policy.d/35-B.policy", ""},
                   {"/etc/policy.d/40-c.policy", "s * work vault allow"}});
  ASSERT_THAT(all.findings, SizeIs(1));
  EXPECT_TRUE(allows(at, all, "work", "work"));
  EXPECT_FALSE(allows(at, all, "work", "vault"));
}

TEST(policy_files, of_an_earlier_directory_hide_those_of_a_later_one) {
  auto at = sample_system{};
  auto all = read({{"/run/policy.d/30-a.policy", "s * work work allow"},
                   {"/etc/policy.d/30-a.policy", "s * work vault allow"},
                   {"/etc/policy.d/20-b.policy", "s * work debian allow"}},
                  {"/run/policy.d", "/etc/policy.d"});
  EXPECT_TRUE(allows(at, all, "work", "work"));
  EXPECT_TRUE(allows(at, all, "work", "debian"));
  EXPECT_FALSE(allows(at, all, "work", "vault"));
}

TEST(policy_files, that_are_nowhere_deny_everything_and_say_so) {
  auto at = sample_system{};
  auto all = read(files{});
  EXPECT_THAT(all.findings, SizeIs(1));
  EXPECT_FALSE(allows(at, all, "work", "vault"));
}

TEST(policy_includes, stand_where_their_line_stands) {
  auto at = sample_system{};
  auto all = read({{"/etc/policy.d/30-a.policy", "s * work work allow\n"
                                                 "!include include/deny\n"
                                                 "s * work vault allow\n"
                                                 "!include-dir more.d\n"
                                                 "!include /opt/last"},
                   {"/etc/policy.d/include/deny", "s * work vault deny"},
                   {"/etc/policy.d/more.d/1.policy", "s * work debian allow"},
                   {"/opt/last", "s * work fedora allow"}});
  EXPECT_THAT(all.findings, IsEmpty());
  EXPECT_TRUE(allows(at, all, "work", "work"));
  EXPECT_FALSE(allows(at, all, "work", "vault"));
  EXPECT_TRUE(allows(at, all, "work", "debian"));
  EXPECT_TRUE(allows(at, all, "work", "fedora"));
}

TEST(policy_includes, of_a_service_have_no_columns_for_it_and_take_the_older_signs) {
  auto at = sample_system{};
  auto all = read({{"/etc/policy.d/90-a.policy", "!include-service s +a include/some\n"
                                                 "!include-service t * include/some"},
                   {"/etc/policy.d/include/some", "# comment\n"
                                                  "work vault allow,target=$adminvm\n"
                                                  "$include:include/more\n"},
                   {"/etc/policy.d/include/more", "$anyvm $adminvm allow target=@adminvm\n"}});
  EXPECT_THAT(all.findings, IsEmpty());
  EXPECT_TRUE(allows(at, all, "work", "vault"));
  EXPECT_TRUE(allows(at, all, "vault", "dom0"));
  EXPECT_FALSE(allows(at, all, "work", "vault", "s", "b"));
  EXPECT_TRUE(allows(at, all, "work", "vault", "t", "b"));
  EXPECT_FALSE(allows(at, all, "work", "vault", "u"));
}

TEST(policy_includes, in_circles_end_and_deny) {
  auto at = sample_system{};
  auto all = read({{"/etc/policy.d/30-a.policy", "s * work work allow\n!include b"},
                   {"/etc/policy.d/b", "!include c"},
                   {"/etc/policy.d/c", "!include b"},
                   {"/etc/policy.d/40-a.policy", "* * * * allow"}});
  ASSERT_THAT(all.findings, SizeIs(1));
  EXPECT_THAT(all.findings[0].where, HasSubstr("/c:1"));
  EXPECT_TRUE(allows(at, all, "work", "work"));
  EXPECT_FALSE(allows(at, all, "work", "vault"));

  auto directory = read({{"/etc/policy.d/30-a.policy", "!include-dir ."},
                         {"/etc/policy.d/40-a.policy", "* * * * allow"}});
  EXPECT_THAT(directory.findings, SizeIs(1));
  EXPECT_FALSE(allows(at, directory, "work", "vault"));
}

TEST(policy_includes, may_be_only_so_deep) {
  auto at = sample_system{};
  auto all = files{{"/etc/policy.d/30-a.policy", "!include f0\n* * * * allow"}};
  for (auto i = std::size_t{0}; i < policy_depth; ++i)
    all[fmt::format("/etc/policy.d/f{}", i)] = fmt::format("!include f{}", i + 1);
  auto deep = read(all);
  EXPECT_THAT(deep.findings, SizeIs(1));
  EXPECT_FALSE(allows(at, deep, "work", "vault"));
}

TEST(policy_includes, that_multiply_end_at_the_limits) {
  auto at = sample_system{};
  auto all = files{{"/etc/policy.d/30-a.policy", "!include f0\n"}};
  for (auto i = 0; i < 12; ++i)
    for (auto j = 0; j < 50; ++j)
      all[fmt::format("/etc/policy.d/f{}", i)] += fmt::format("!include f{}\n", i + 1);
  all["/etc/policy.d/f12"] = "s * work work deny\n";
  auto many = read(all);
  EXPECT_THAT(many.findings, SizeIs(1));
  EXPECT_LE(many.rules.size(), policy_rules + 1);
  EXPECT_FALSE(allows(at, many, "work", "vault"));
}

TEST(policy_findings, are_one_line_without_control_characters) {
  for (auto line : {"!include a\x1b[2J", "!include-dir \u009b2J\x08", "x\x07 * work work allow"}) {
    auto all = read(line);
    ASSERT_THAT(all.findings, SizeIs(1)) << line;
    for (auto control : {"\x1b", "\x08", "\x07", "\u009b"})
      EXPECT_THAT(all.findings[0].text, Not(HasSubstr(control))) << line;
  }
}

TEST(policy_limits, are_on_text_and_rules) {
  auto at = sample_system{};
  auto big = read("s * work work allow\n#" + std::string(policy_bytes, 'x') + "\n* * * * allow");
  ASSERT_THAT(big.findings, SizeIs(1));
  EXPECT_FALSE(allows(at, big, "work", "work")) << "nothing of a file too large is believed";

  auto text = std::string{};
  for (auto i = std::size_t{0}; i <= policy_rules; ++i)
    text += "s * work work deny\n";
  auto long_one = read(text + "* * * * allow");
  ASSERT_THAT(long_one.findings, SizeIs(1));
  EXPECT_EQ(long_one.rules.size(), policy_rules + 1);
  EXPECT_FALSE(allows(at, long_one, "work", "vault"));
}

TEST(policy_legacy, files_are_read_where_a_line_says_so) {
  auto at = sample_system{};
  auto all = read({{"/etc/policy.d/35-compat.policy", "!compat-4.0"},
                   {"/etc/policy.d/90-default.policy", "* * * * allow"},
                   {"/etc/legacy/s", "vault work deny"},
                   {"/etc/legacy/s+a", "work vault allow"},
                   {"/etc/legacy/t.rpmsave", "nonsense"}});
  EXPECT_THAT(all.findings, IsEmpty());
  EXPECT_TRUE(allows(at, all, "work", "vault"));
  EXPECT_FALSE(allows(at, all, "work", "debian")) << "what s+a does not name is denied";
  EXPECT_FALSE(allows(at, all, "vault", "work", "s", "b"));
  EXPECT_TRUE(allows(at, all, "work", "debian", "s", "b")) << "others go on to the default";
}

TEST(policy_names, that_no_domain_can_have_are_told) {
  auto at = sample_system{};
  auto all = read("s * $anyvm vault deny\ns * work vault allow");
  ASSERT_THAT(all.findings, SizeIs(1));
  EXPECT_THAT(all.findings[0].text, HasSubstr("'$anyvm' names no domain"));
  EXPECT_TRUE(allows(at, all, "work", "vault"));
}

TEST(policy_autostart, no_allows_a_call_only_to_a_running_domain) {
  auto at = sample_system{};
  auto all = read("s * work vault allow autostart=no");
  EXPECT_FALSE(allows(at, all, "work", "vault"));
  auto facts = live{};
  facts.state = power::running;
  facts.xid = 7;
  facts.agent = true;
  at.board->write(at["vault"].qid, facts);
  EXPECT_TRUE(allows(at, all, "work", "vault"));
}

TEST(policy_text, is_split_as_python_splits_it) {
  EXPECT_THAT(read("s\u00A0*\u2003work\u3000vault\x1c"
                   "allow")
                  .findings,
              IsEmpty());
  auto denied = read("# a comment\rs * work vault deny\rs * work vault allow\n");
  ASSERT_EQ(denied.rules.size(), 2u) << "a carriage return ends a line, comments too";
  EXPECT_EQ(denied.rules[0].action, policy_action::deny);
  EXPECT_EQ(read("s * w\u00F6rk vault deny\ns * work vault allow\n").rules.size(), 2u);
}

TEST(policy_text, of_random_bytes_never_crashes_the_reader) {
  auto at = sample_system{};
  auto chance = std::mt19937{1};
  constexpr auto letters = "s*+a @:!#\n\t=work\0$,\xff\0"sv;
  for (auto i = 0; i < 3000; ++i) {
    auto text = std::string(chance() % 120, ' ');
    for (auto& c : text)
      c = letters[chance() % letters.size()];
    allows(at, read(text), "work", "vault");
  }
}

} // namespace qubes::model
