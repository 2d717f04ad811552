// What guests may ask for, and what they may not.
#include "tests/model/sample_system.hpp"

#include "model/change/updates.hpp"
#include "model/guest/features_request.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace qubes;
using namespace qubes::model;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using tests::sample_system;

namespace {

struct requests : testing::Test {
  sample_system at;

  plan ask(std::string_view who, const features_request& request) const {
    return plan_features_request(at.view(), at[who], request);
  }
  /// The changes that the request would make.
  std::string asks(std::string_view who, const features_request& request) const {
    auto x = ask(who, request);
    EXPECT_FALSE(x.refusal);
    return shown(x);
  }
  /// The text of a plan without its quotes.
  std::string shown(const plan& x) const {
    EXPECT_TRUE(apply(at.system, at.machine, x.what));
    auto text = print(at.system, x.what);
    std::erase(text, '"');
    return text;
  }
  void has(std::string_view who, std::string_view name, std::string_view text) {
    at.make({{set_feature{std::string{who}, std::string{name}, std::string{text}}}});
  }
  static std::vector<std::string> names(const plan& x) {
    auto result = std::vector<std::string>{};
    for (auto& it : x.after)
      result.push_back(it.name);
    return result;
  }
};

errc code(const auto& x) {
  return x ? errc::none : x.error().code;
}

} // namespace

// -- reading ----------------------------------------------------------------------------------

TEST_F(requests, of_harmless_characters_are_read) {
  auto x = parse_features_request({{"/features-request/os", "Linux"},
                                   {"/features-request/boot-mode.kernelopts.a", "x=1 y,z.w_-"}});
  ASSERT_TRUE(x);
  EXPECT_EQ(x->at("os"), "Linux");
  EXPECT_EQ(x->at("boot-mode.kernelopts.a"), "x=1 y,z.w_-");
}

TEST_F(requests, of_other_characters_are_passed_over_by_name) {
  for (auto text : {"a\nb", "a'b", "a/b", "\xC3\xA4", "a;b", "\x01"}) {
    auto passed_over = std::vector<error>{};
    auto x = parse_features_request(
        {{"/features-request/os", text}, {"/features-request/gui", "1"}}, &passed_over);
    ASSERT_TRUE(x) << text;
    EXPECT_EQ(*x, (features_request{{"gui", "1"}})) << text;
    ASSERT_EQ(passed_over.size(), 1u) << text;
    EXPECT_THAT(passed_over.front().message(), HasSubstr("os"));
  }
  for (auto path : {"/features-request/a b", "/features-request/",
                    "/features-request/supported-service.getty@tty"}) {
    auto x = parse_features_request({{path, "1"}, {"/features-request/gui", "1"}});
    ASSERT_TRUE(x) << path;
    EXPECT_EQ(*x, (features_request{{"gui", "1"}})) << path;
  }
  EXPECT_EQ(code(parse_features_request(entry_list(1001, {"/features-request/a", "1"}))),
            errc::protocol);
}

TEST_F(requests, of_more_bytes_than_subscribers_shall_hear_are_refused_as_a_whole) {
  auto big = std::string(3000, 'x');
  EXPECT_TRUE(parse_features_request(entry_list(20, {"/features-request/a", big})));
  EXPECT_EQ(code(parse_features_request(entry_list(22, {"/features-request/a", big}))),
            errc::protocol);
}

TEST_F(requests, of_windows_tools_have_a_few_names) {
  auto x = parse_tools_request({{"/qubes-tools/os", "Windows"},
                                {"/qubes-tools/gui", ""},
                                {"/qubes-tools/other", "a b"},
                                {"/qubes-tools/qrexec", "1"}});
  ASSERT_TRUE(x);
  EXPECT_EQ(*x, (features_request{{"os", "Windows"}, {"qrexec", "1"}}));
  auto odd = parse_tools_request({{"/qubes-tools/os", "a b"}, {"/qubes-tools/gui", "1"}});
  ASSERT_TRUE(odd);
  EXPECT_EQ(*odd, (features_request{{"gui", "1"}}));
}

// -- granting ---------------------------------------------------------------------------------

TEST_F(requests, that_are_empty_are_told_and_change_nothing) {
  auto x = ask("alone", {});
  EXPECT_TRUE(x.what.empty());
  ASSERT_THAT(names(x), ElementsAre("features-request"));
  EXPECT_EQ(x.after.front().args.front().second, "{}");
}

TEST_F(requests, are_told_as_they_were_made) {
  auto x = ask("alone", {{"a", "1"}, {"os", "Linux"}});
  for (auto& it : x.after)
    if (it.name == "features-request") {
      EXPECT_EQ(it.args.front().second, "{'a': '1', 'os': 'Linux'}");
    }
}

TEST_F(requests, of_unknown_names_are_passed_over) {
  EXPECT_EQ(asks("debian", {{"nonsense", "1"}, {"maxmem", "0"}, {"service.x", "1"}}), "");
}

TEST_F(requests, do_not_overrule_the_administrator) {
  has("debian", "gui", "");
  EXPECT_EQ(asks("debian", {{"gui", "1"}}), "");
  EXPECT_THAT(asks("debian", {{"gui-emulated", "0"}, {"qrexec", "1"}}), HasSubstr("qrexec = 1"));
  EXPECT_EQ(asks("debian", {{"qrexec", "yes"}}), "");
}

TEST_F(requests, about_installed_updates_are_applied_each_time) {
  has("debian", "qubes-firewall", "1");
  EXPECT_THAT(asks("debian", {{"qubes-firewall", "0"}}), HasSubstr("qubes-firewall"));
  EXPECT_THAT(asks("debian", {{"vmexec", "1"}}), HasSubstr("vmexec = 1"));
}

TEST_F(requests, about_the_system_are_checked) {
  struct row {
    std::string_view name, good, bad;
  };
  for (auto& it :
       {row{"os", "Linux", "BeOS"}, row{"os-version", "12.4", "v12"},
        row{"os-eol", "2028-02-29", "2027-02-29"}, row{"os-eol", "2028-06-30", "2028-6"},
        row{"qubes-agent-version", "4.3", "4.3.1"}, row{"qubes-agent-version", "4.10", "4."},
        row{"anon-timezone", "1", "0"}, row{"os-distribution", "debian", ""}}) {
    auto name = std::string{it.name};
    EXPECT_THAT(asks("debian", {{name, std::string{it.good}}}), HasSubstr(it.good)) << name;
    EXPECT_EQ(asks("debian", {{name, std::string{it.bad}}}), "") << name;
  }
}

TEST_F(requests, of_the_first_agent_send_the_event_template_postinstall) {
  EXPECT_THAT(names(ask("debian", {{"qrexec", "1"}})), Contains("template-postinstall"));
  has("debian", "qrexec", "1");
  EXPECT_THAT(names(ask("debian", {{"qrexec", "1"}})), Not(Contains("template-postinstall")));
}

TEST_F(requests, of_domains_with_a_template_set_services_only) {
  auto request = features_request{{"os", "Linux"},
                                  {"qrexec", "1"},
                                  {"supported-service.cups", "1"},
                                  {"supported-feature.memory-hotplug", "1"},
                                  {"supported-rpc.qubes.WaitForSession", "1"}};
  EXPECT_EQ(asks("work", request),
            "work: feature supported-rpc.qubes.WaitForSession = 1 (was absent)\n");
}

TEST_F(requests, of_support_replace_the_earlier_support) {
  has("debian", "supported-service.old", "1");
  has("debian", "supported-service.cups", "1");
  auto text = asks("debian", {{"supported-service.cups", "1"},
                              {"supported-service.new", "1"},
                              {"supported-service.no", "0"}});
  EXPECT_THAT(text, HasSubstr("supported-service.new = 1"));
  EXPECT_THAT(text, HasSubstr("supported-service.old"));
  EXPECT_THAT(text, Not(HasSubstr("cups")));
  EXPECT_THAT(text, Not(HasSubstr("service.no ")));
  EXPECT_EQ(asks("debian", {{"supported-service.cups", "0"}}), "") << "nothing said";
}

TEST_F(requests, switch_apparmor_on_once_and_off_with_its_support) {
  EXPECT_THAT(asks("debian", {{"supported-service.apparmor", "1"}}),
              HasSubstr("feature apparmor = 1"));
  has("debian", "supported-service.apparmor", "1");
  EXPECT_EQ(asks("debian", {{"supported-service.apparmor", "1"}}), "") << "it was switched off";
  has("debian", "apparmor", "1");
  EXPECT_THAT(asks("debian", {{"supported-service.other", "1"}}), HasSubstr("feature apparmor"));
}

TEST_F(requests, replace_the_boot_modes) {
  has("debian", "boot-mode.kernelopts.old", "x");
  auto text = asks("debian", {{"boot-mode.kernelopts.safe", "nosmt"},
                              {"boot-mode.name.safe", "Safe"},
                              {"boot-mode.name.default", "Usual"},
                              {"boot-mode.default-user.safe", "root"},
                              {"boot-mode.kernelopts.default", "x"},
                              {"boot-mode.name.other", "Other"},
                              {"boot-mode.active", "safe"},
                              {"boot-mode.appvm-default", "other"}});
  for (auto part : {"kernelopts.safe = nosmt", "name.safe = Safe", "name.default = Usual",
                    "default-user.safe = root", "kernelopts.old", "boot-mode.active = safe"})
    EXPECT_THAT(text, HasSubstr(part));
  for (auto part : {"kernelopts.default", "name.other", "appvm-default"})
    EXPECT_THAT(text, Not(HasSubstr(part)));
}

TEST_F(requests, of_boot_modes_that_look_alike_change_none) {
  has("debian", "boot-mode.kernelopts.old", "x");
  EXPECT_EQ(asks("debian", {{"boot-mode.kernelopts.a", "1"},
                            {"boot-mode.kernelopts.b", "2"},
                            {"boot-mode.name.a", "Same"},
                            {"boot-mode.name.b", "Same"}}),
            "");
  auto many = features_request{};
  for (auto i = 0; i < 65; ++i)
    many.emplace(fmt::format("boot-mode.kernelopts.m{}", i), "x");
  EXPECT_EQ(asks("debian", many), "");
}

TEST_F(requests, of_windows_prepare_the_domain_even_while_it_runs) {
  at.live("alone", power::running);
  auto text = asks("alone", {{"os", "Windows"}, {"qrexec", "1"}});
  for (auto part :
       {"rpc-clipboard = 1", "audio-model = ich6", "no-monitor-layout = 1", "stubdom-qrexec = 1",
        "timezone = localtime", "maxmem = 0", "qrexec_timeout = 6000", "os = Windows"})
    EXPECT_THAT(text, HasSubstr(part));
  has("alone", "timezone", "0");
  EXPECT_THAT(asks("alone", {{"os", "Windows"}, {"qrexec", "1"}}), Not(HasSubstr("timezone")));
  EXPECT_THAT(asks("alone", {{"os", "Windows"}}), Not(HasSubstr("maxmem")));
}

// -- updates ----------------------------------------------------------------------------------

namespace {

struct update_news : requests {
  plan found(std::string_view who, bool available) const {
    return plan_notify_updates(at.view(), at[who], available, "NOW");
  }
};

} // namespace

TEST_F(update_news, are_counted_in_digits) {
  EXPECT_EQ(parse_update_count(" 5\n").value(), true);
  EXPECT_EQ(parse_update_count("000").value(), false);
  EXPECT_EQ(parse_update_count(std::string(60000, '9')).value(), true);
  for (auto text : {"", " ", "abc", "-1", "1 2", "+1", "1\0"})
    if (std::string_view{text} != "1") {
      EXPECT_EQ(code(parse_update_count(text)), errc::protocol) << text;
    }
}

TEST_F(update_news, are_noted_where_they_are_kept) {
  EXPECT_EQ(shown(found("alone", true)), "alone: feature updates-available = 1 (was absent)\n"
                                         "alone: feature last-updates-check = NOW (was absent)\n");
}

TEST_F(update_news, of_none_left_tell_when_the_last_were_made) {
  has("debian", "updates-available", "1");
  auto x = found("debian", false);
  EXPECT_THAT(names(x),
              ElementsAre("domain-feature-pre-set:last-update", "domain-feature-set:last-update",
                          "domain-feature-pre-set:updates-available",
                          "domain-feature-set:updates-available",
                          "domain-feature-pre-set:last-updates-check",
                          "domain-feature-set:last-updates-check"));
  at.make(x.what);
  EXPECT_THAT(shown(found("debian", false)), Not(HasSubstr("last-update ")));
}

TEST_F(update_news, of_a_domain_are_noted_on_its_halted_template) {
  EXPECT_THAT(shown(found("disp1", true)), HasSubstr("debian: feature updates-available = 1"));
  EXPECT_TRUE(found("work", false).what.empty()) << "it cannot know of none";
  at.live("debian", power::running);
  EXPECT_TRUE(found("work", true).what.empty()) << "the template tells for itself";
}

TEST_F(update_news, of_other_hosts_are_refused) {
  EXPECT_EQ(found("far", true).refusal->code, errc::vm_error);
}
