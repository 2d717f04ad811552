// Callers other than dom0: what they may do, see and hear (spec/admin-api.md A5, A6).
#include "actors/api/gate.hpp"
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace qubes::tests {

using namespace std::string_literals;
using namespace std::string_view_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

namespace {

struct permissions : ::testing::Test {
  simulation sim{1, sample_host(3, 1)};
  std::vector<std::string> replies;
  actors::request_handler handler{
      sim.runtime().world(), sim.runtime().gate(),
      [this](connection_id, const std::string& frame, bool) { replies.push_back(frame); },
      [](connection_id) {}};

  /// The reply to a request that is answered at once.
  std::string say(std::string_view method, std::string_view source, std::string_view destination,
                  std::string_view payload = "", connection_id who = 7) {
    replies.clear();
    handler.serve(who, api::socket::admin, {1, 0},
                  fmt::format("{} {} name {}", method, source, destination) + "\0"s
                      + std::string{payload});
    return replies.empty() ? ""s : replies.front();
  }

  /// Names in a reply to List.
  std::vector<std::string> listed(std::string_view source, std::string_view destination) {
    auto names = std::vector<std::string>{};
    auto reply = say("admin.vm.List", source, destination);
    EXPECT_THAT(reply, StartsWith("0\0"s));
    auto rest = std::string_view{reply}.substr(2);
    while (!rest.empty()) {
      names.emplace_back(rest.substr(0, rest.find(' ')));
      rest.remove_prefix(rest.find('\n') + 1);
    }
    return names;
  }

  /// "SUBJECT EVENT" of every frame that went to a connection.
  std::vector<std::string> heard(connection_id who) {
    auto result = std::vector<std::string>{};
    for (auto& frame : sim.sent_to(who)) {
      auto rest = frame.substr(2);
      auto name = rest.substr(rest.find('\0') + 1);
      result.push_back(rest.substr(0, rest.find('\0')) + ' ' + name.substr(0, name.find('\0')));
    }
    return result;
  }
};

constexpr auto denied = "2\0PermissionDenied\0\0"sv;

} // namespace

TEST_F(permissions, list_shows_what_the_policy_allows) {
  sim.rules("admin.vm.List * app0 @adminvm allow target=@adminvm\n"
            "admin.vm.List * app0 app1 allow target=@adminvm\n"
            "admin.vm.List * app0 app2 ask\n");
  EXPECT_THAT(listed("app0", "dom0"), ElementsAre("dom0", "app1"));
  EXPECT_THAT(listed("app0", "app1"), ElementsAre("app1"));
  EXPECT_THAT(listed("app0", "app2"), IsEmpty());
  EXPECT_THAT(listed("app1", "dom0"), IsEmpty());
  EXPECT_EQ(listed("dom0", "dom0").size(), 6U);
}

TEST_F(permissions, overview_shows_the_same_domains) {
  sim.rules("admin.vm.List * app0 app1 allow target=@adminvm\n");
  auto body = nlohmann::json::parse(say("qvmd.Overview", "app0", "dom0").substr(2));
  ASSERT_EQ(body["domains"].size(), 1U);
  EXPECT_EQ(body["domains"][0]["name"], "app1");
}

TEST_F(permissions, a_damaged_policy_shows_no_domain) {
  sim.rules("admin.vm.List * app0\nadmin.vm.List * app0 * allow\n");
  EXPECT_THAT(listed("app0", "dom0"), IsEmpty());
}

TEST_F(permissions, prohibitions_come_before_the_handler_and_name_the_value) {
  EXPECT_THAT(say("admin.vm.tag.Set+created-by-app1", "app0", "app1"), StartsWith(denied));
  EXPECT_THAT(replies.front(), HasSubstr("'created-by-app1'"));
  EXPECT_THAT(say("admin.vm.tag.Remove+created-by-dom0", "app0", "app1"), StartsWith(denied));
  EXPECT_THAT(say("admin.vm.feature.Set+preload-dispvm", "dom0", "app1", "x"), StartsWith(denied));
  EXPECT_THAT(say("admin.vm.feature.Remove+preload-dispvm", "app0", "app1"), StartsWith(denied));
  EXPECT_THAT(say("qvmd.Status", "app0", "dom0"), StartsWith(denied));
  EXPECT_THAT(say("qvmd.Plan+admin.vm.tag.Set+created-by-x", "app0", "app1"), StartsWith(denied));
  sim.run();
  EXPECT_FALSE(sim.system().find("app1")->tags.contains("created-by-app1"));
  EXPECT_EQ(say("admin.vm.tag.Set+created-by-app1", "dom0", "app1"), "") << "an order";
  sim.run();
  EXPECT_TRUE(sim.system().find("app1")->tags.contains("created-by-app1"));
}

TEST_F(permissions, interfaces_a_domain_denies_come_before_its_state) {
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"devices_denied", "b******"}));
  auto attach = [&](const std::string& to) {
    auto ticket = sim.send(to, ask::attach_device{"block", "app2+sda", "mode='auto-attach'"});
    sim.run();
    return sim.answer_to(ticket)->error().code;
  };
  EXPECT_EQ(attach("app0"), model::errc::permission_denied);
  EXPECT_EQ(attach("app1"), model::errc::vm_not_running);
}

TEST_F(permissions, status_tells_what_is_wrong_with_the_policy) {
  sim.rules("admin.vm.List * app0\n");
  auto body = nlohmann::json::parse(say("qvmd.Status", "dom0", "dom0").substr(2));
  ASSERT_EQ(body["policy"]["findings"].size(), 1U);
  EXPECT_EQ(body["policy"]["findings"][0]["where"], "d/30.policy:1");
}

TEST_F(permissions, events_reach_the_listeners_that_the_policy_allows) {
  sim.rules("admin.Events +domain-tag-add_loud app0 app1 allow target=@adminvm\n"
            "admin.Events +domain-feature-set_f app0 @anyvm ask\n"
            "admin.Events * app0 @adminvm allow\n");
  say("admin.Events", "app0", "dom0", "", 20);
  say("admin.Events", "app1", "dom0", "", 21);
  say("admin.Events", "dom0", "dom0", "", 22);
  say("admin.Events", "dom0", "app2", "", 23);
  sim.run();
  sim.ask("app1", ask::add_tag{"loud"});
  sim.ask("app1", ask::add_tag{"quiet"});
  sim.ask("app2", ask::add_tag{"loud"});
  sim.ask("app1", ask::set_feature{"f", "1"});
  sim.ask("", ask::set_property{"default_qrexec_timeout", "70"});
  constexpr auto begun = " connection-established";
  EXPECT_THAT(heard(20), ElementsAre(begun, "app1 domain-tag-add:loud",
                                     " property-pre-set:default_qrexec_timeout",
                                     " property-set:default_qrexec_timeout"));
  EXPECT_THAT(heard(21), ElementsAre(begun));
  EXPECT_EQ(heard(22).size(), 8U);
  EXPECT_THAT(heard(23), ElementsAre(begun, "app2 domain-tag-add:loud"));
}

TEST_F(permissions, a_listener_keeps_the_policy_of_the_time_it_subscribed) {
  sim.rules("admin.Events * app0 @anyvm allow\n");
  say("admin.Events", "app0", "dom0", "", 20);
  sim.run();
  sim.rules("* * * * deny\n");
  say("admin.Events", "app0", "dom0", "", 21);
  sim.run();
  sim.ask("app1", ask::add_tag{"t"});
  EXPECT_EQ(heard(20).size(), 2U);
  EXPECT_EQ(heard(21).size(), 1U);
}

TEST_F(permissions, the_other_listeners_still_hear_events_when_one_leaves) {
  sim.rules("admin.Events * app0 @anyvm allow\n");
  say("admin.Events", "app0", "dom0", "", 20);
  say("admin.Events", "app0", "dom0", "", 21);
  sim.run();
  handler.gone(20);
  sim.run();
  sim.ask("app1", ask::add_tag{"t"});
  EXPECT_EQ(heard(20).size(), 1U);
  EXPECT_EQ(heard(21).size(), 2U);
}

} // namespace qubes::tests
