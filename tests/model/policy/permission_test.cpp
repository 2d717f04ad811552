#include "model/policy/permission.hpp"

#include "tests/model/sample_system.hpp"

#include <gtest/gtest.h>

namespace qubes::model {

namespace {

using tests::sample_system;

policy_rule rule(std::string service, std::string argument, std::string source, policy_party target,
                 policy_action action = policy_action::allow) {
  return {.service = std::move(service),
          .argument = std::move(argument),
          .source = {policy_party::kind::name, std::move(source)},
          .target = std::move(target),
          .action = action,
          .redirect = policy_party{policy_party::kind::dom0}};
}

errc refusal(const outcome<void>& x) {
  return x ? errc::none : x.error().code;
}

} // namespace

struct prohibition_case {
  std::string_view method, argument, source;
  errc wanted;
};

struct prohibitions : ::testing::TestWithParam<prohibition_case> {};

TEST_P(prohibitions, hold_for_the_callers_that_they_name) {
  auto at = sample_system{};
  auto& x = GetParam();
  auto done = permit(x.method, x.argument, at[x.source]);
  EXPECT_EQ(refusal(done), x.wanted);
  if (!done && !x.argument.empty()) {
    EXPECT_NE(done.error().text.find(x.argument), std::string::npos) << done.error().text;
  }
}

INSTANTIATE_TEST_SUITE_P(
    table, prohibitions,
    ::testing::Values(
        prohibition_case{"admin.vm.feature.Set", "preload-dispvm", "dom0", errc::permission_denied},
        prohibition_case{"admin.vm.feature.Set", "preload-dispvm-completed", "work",
                         errc::permission_denied},
        prohibition_case{"admin.vm.feature.Remove", "preload-dispvm-in-progress", "dom0",
                         errc::permission_denied},
        prohibition_case{"admin.vm.feature.Remove", "deferred-netvm-original", "far",
                         errc::permission_denied},
        prohibition_case{"admin.vm.feature.Set", "preload-dispvm-max", "work", errc::none},
        prohibition_case{"admin.vm.feature.Get", "preload-dispvm", "work", errc::none},
        prohibition_case{"admin.vm.tag.Set", "created-by-work", "work", errc::permission_denied},
        prohibition_case{"admin.vm.tag.Remove", "created-by-dom0", "far", errc::permission_denied},
        prohibition_case{"admin.vm.tag.Set", "created-by-work", "dom0", errc::none},
        prohibition_case{"admin.vm.tag.Get", "created-by-work", "work", errc::none},
        prohibition_case{"admin.vm.tag.Set", "corp", "work", errc::none},
        prohibition_case{"qvmd.Status", "", "work", errc::permission_denied},
        prohibition_case{"qvmd.Status", "", "dom0", errc::none},
        prohibition_case{"qvmd.VolumeExport", "private", "work", errc::permission_denied},
        prohibition_case{"qvmd.VolumeExport", "private", "dom0", errc::none},
        prohibition_case{"admin.vm.Start", "", "far", errc::none}));

TEST(visible_domains, are_what_the_policy_allows_and_everything_for_dom0) {
  auto at = sample_system{};
  auto all = policy{};
  all.rules = {rule("admin.vm.List", "+", "far", {policy_party::kind::name, "work"}),
               rule("admin.vm.List", "+x", "far", {policy_party::kind::name, "vault"}),
               rule("admin.vm.List", "", "far", {policy_party::kind::type, "TemplateVM"},
                    policy_action::ask)};
  auto v = at.view();
  auto far = sight{all, v, at["far"]};
  EXPECT_TRUE(far.of(at["work"]));
  EXPECT_FALSE(far.of(at["vault"])) << "a rule for an argument that a listing has not";
  EXPECT_FALSE(far.of(at["debian"])) << "asking counts as no";
  EXPECT_FALSE(far.of(at["far"])) << "nobody sees itself without a rule";
  EXPECT_TRUE((sight{policy{}, v, at["dom0"]}.of(at["vault"])));
}

TEST(audiences, hear_events_by_name_and_by_subject) {
  auto at = sample_system{};
  auto all = std::make_shared<policy>();
  all->rules = {
      rule("admin.Events", "+domain-tag-add_t1", "work", {policy_party::kind::dom0},
           policy_action::deny),
      rule("admin.Events", "+domain-add", "work", {policy_party::kind::name, "vault"}),
      rule("admin.Events", "+property-set_memory", "work", {policy_party::kind::name, "vault"}),
      rule("admin.Events", "", "work", {policy_party::kind::dom0})};
  auto who = audience{"", at["work"].uuid, all};
  auto v = at.view();
  EXPECT_TRUE(who.hears(v, {"vault", "property-set:memory", {}}));
  EXPECT_FALSE(who.hears(v, {"vault", "property-set:netvm", {}}));
  EXPECT_FALSE(who.hears(v, {"debian", "property-set:memory", {}}));
  EXPECT_TRUE(who.hears(v, {"", "property-set:clockvm", {}})) << "the host's own are about dom0";
  EXPECT_TRUE(who.hears(v, {"", "domain-add", {{"vm", "vault"}}}));
  EXPECT_FALSE(who.hears(v, {"", "domain-add", {{"vm", "debian"}}}));
  EXPECT_FALSE(who.hears(v, {"", "domain-delete", {{"vm", "nobody"}}}));
  EXPECT_FALSE(who.hears(v, {"dom0", "domain-tag-add:t1", {}}));
}

TEST(audiences, of_one_domain_hear_of_it_alone) {
  auto at = sample_system{};
  auto who = audience{"vault", at["dom0"].uuid, std::make_shared<policy>()};
  auto v = at.view();
  EXPECT_TRUE(who.hears(v, {"vault", "domain-start", {}}));
  EXPECT_FALSE(who.hears(v, {"work", "domain-start", {}}));
  EXPECT_FALSE(who.hears(v, {"", "domain-add", {{"vm", "vault"}}}));
}

TEST(audiences, hear_nothing_once_they_are_removed) {
  auto at = sample_system{};
  auto all = std::make_shared<policy>();
  all->rules = {rule("", "", "work", {policy_party::kind::anyone})};
  auto who = audience{"", at["work"].uuid, all};
  EXPECT_TRUE(who.hears(at.view(), {"vault", "domain-start", {}}));
  at.system.remove("work");
  at.add(klass::app, "work", 20);
  EXPECT_FALSE(who.hears(at.view(), {"vault", "domain-start", {}}))
      << "another of the same name is another";
}

TEST(denied_interfaces, are_asked_of_every_device) {
  auto at = sample_system{};
  at.add(klass::app, "picky", 20, {{"devices_denied", "b******"}});
  auto v = at.view();
  auto disk = device{};
  disk.interfaces = "b******";
  auto stick = device{};
  stick.interfaces = "u080650";
  EXPECT_EQ(refusal(permit_device({v, &at["picky"]}, &disk)), errc::permission_denied);
  EXPECT_EQ(refusal(permit_device({v, &at["picky"]}, nullptr)), errc::permission_denied);
  EXPECT_EQ(refusal(permit_device({v, &at["picky"]}, &stick)), errc::none);
  EXPECT_EQ(refusal(permit_device({v, &at["work"]}, nullptr)), errc::none);
}

} // namespace qubes::model
