// Menus of applications: what GUI domains are asked to do, and what waits while they are down.
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace qubes::tests {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

/// dom0 shows all domains but app0, which app2 shows.
model::system host_with_gui() {
  auto x = sample_host(3, 1);
  auto edit = [&](std::string_view name, auto change) {
    auto copy = std::make_shared<model::domain>(*x.find(name));
    change(*copy);
    x.put(copy);
  };
  edit("debian", [](auto& d) {
    d.features.set("qrexec", "1");
    d.features.set("supported-rpc.qubes.UpdateAppMenusFor", "1");
    d.features.set("supported-rpc.qubes.RemoveAppMenusFor", "1");
  });
  edit("app0", [](auto& d) {
    d.properties["guivm"] = std::string{"app2"};
    d.tags = {"audiovm-dom0", "guivm-app2"};
  });
  return x;
}

struct menu_test : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), host_with_gui()};

  menu_test() {
    sim.runtime().world()->machine.update(
        [](model::host& x) { x.packages.insert(model::package::appmenus); });
  }

  /// Calls that were made for menus, each as `DOMAIN USER SERVICE`.
  std::vector<std::string> calls() {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.tools().calls())
      if (x.what.service.find("AppMenusFor") != std::string::npos)
        result.push_back(fmt::format("{} {} {}", x.domain, x.what.user, x.what.service));
    return result;
  }
  std::string feature(std::string_view of, std::string_view name) {
    auto* text = sim.system().find(of)->features.find(name);
    return text ? *text : "absent";
  }
  std::string say(std::string_view method, std::string_view argument, std::string_view destination,
                  std::string_view payload = {}) {
    auto reply = sim.say(bytes_of(method, argument, "dom0", destination, payload));
    EXPECT_FALSE(reply.frames.empty()) << method;
    return reply.frames.empty() ? "" : reply.frames.front();
  }

  void TearDown() override {
    sim.check_rest();
    EXPECT_THAT(sim.violations(), IsEmpty());
    EXPECT_THAT(sim.tools().complaints(), IsEmpty());
  }
};

constexpr auto updates = "menu-update-pending-for";
constexpr auto removals = "menu-remove-pending-for";

} // namespace

TEST_P(menu_test, dom0_runs_the_service_at_once) {
  ASSERT_TRUE(sim.ask("app1", ask::set_property{"label", "blue"}));
  EXPECT_THAT(calls(), ElementsAre("dom0 DEFAULT qubes.UpdateAppMenusFor+app1"));
  ASSERT_TRUE(sim.ask("app1", ask::set_feature{"internal", "1"}));
  EXPECT_THAT(calls(), ElementsAre("dom0 DEFAULT qubes.UpdateAppMenusFor+app1",
                                   "dom0 DEFAULT qubes.RemoveAppMenusFor+app1"));
  EXPECT_EQ(feature("dom0", updates), "absent");
}

TEST_P(menu_test, a_new_domain_appears_and_a_removed_one_goes) {
  EXPECT_EQ(say("admin.vm.Create.AppVM", "debian", "dom0", "name=fresh label=red")[0], '0');
  EXPECT_THAT(calls(), ElementsAre("dom0 DEFAULT qubes.UpdateAppMenusFor+fresh"));
  EXPECT_EQ(say("admin.vm.Remove", "", "fresh")[0], '0');
  EXPECT_THAT(calls(), ElementsAre("dom0 DEFAULT qubes.UpdateAppMenusFor+fresh",
                                   "dom0 DEFAULT qubes.RemoveAppMenusFor+fresh"));
}

TEST_P(menu_test, of_a_gui_domain_that_is_down_wait_for_its_start) {
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"label", "blue"}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"label", "green"}));
  EXPECT_THAT(calls(), IsEmpty());
  EXPECT_EQ(feature("app2", updates), "app0");
  ASSERT_TRUE(sim.ask("app1", ask::set_property{"guivm", "app2"}));
  ASSERT_TRUE(sim.ask("app1", ask::set_property{"guivm", ""}));
  EXPECT_EQ(feature("app2", updates), "app0 app1");
  EXPECT_EQ(feature("app2", removals), "app1");
  EXPECT_THAT(calls(), ElementsAre("dom0 DEFAULT qubes.RemoveAppMenusFor+app1"));

  ASSERT_TRUE(sim.ask("app2", ask::start{}));
  sim.run();
  EXPECT_THAT(calls(), ElementsAre("dom0 DEFAULT qubes.RemoveAppMenusFor+app1",
                                   "app2 user qubes.RemoveAppMenusFor+app1",
                                   "app2 user qubes.UpdateAppMenusFor+app0"))
      << "app1 is shown by nobody now";
  EXPECT_EQ(feature("app2", updates), "absent");
  EXPECT_EQ(feature("app2", removals), "absent");
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"label", "red"}));
  EXPECT_EQ(calls().back(), "app2 user qubes.UpdateAppMenusFor+app0");
  EXPECT_EQ(calls().size(), 4U);
}

TEST_P(menu_test, that_change_while_the_gui_domain_starts_are_not_lost) {
  auto start = sim.send("app2", ask::start{});
  auto change = sim.send("app0", ask::set_property{"label", "blue"});
  sim.run();
  ASSERT_TRUE(*sim.answer_to(start));
  ASSERT_TRUE(*sim.answer_to(change));
  EXPECT_THAT(calls(), ElementsAre("app2 user qubes.UpdateAppMenusFor+app0"));
  EXPECT_EQ(feature("app2", updates), "absent");
}

TEST_P(menu_test, that_fail_are_left_and_the_next_is_made) {
  sim.tools().set_services([](const auto& x) -> model::outcome<std::string> {
    if (x.what.service.ends_with("+app1"))
      return model::fail(model::errc::vm_error, "no menu");
    return "";
  });
  ASSERT_TRUE(sim.ask("app1", ask::set_property{"label", "blue"}));
  ASSERT_TRUE(sim.ask("debian", ask::set_property{"label", "blue"}));
  EXPECT_THAT(calls(), ElementsAre("dom0 DEFAULT qubes.UpdateAppMenusFor+app1",
                                   "dom0 DEFAULT qubes.UpdateAppMenusFor+debian"));
}

TEST_P(menu_test, of_a_paused_gui_domain_are_made_when_it_goes_on) {
  ASSERT_TRUE(sim.ask("app2", ask::start{}));
  ASSERT_TRUE(sim.ask("app2", ask::pause{}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"label", "blue"}));
  EXPECT_EQ(feature("app2", updates), "app0");
  ASSERT_TRUE(sim.ask("app2", ask::unpause{}));
  sim.run();
  EXPECT_THAT(calls(), ElementsAre("app2 user qubes.UpdateAppMenusFor+app0"));
  EXPECT_EQ(feature("app2", updates), "absent");
}

TEST_P(menu_test, a_template_with_new_programs_is_asked_for_its_applications) {
  ASSERT_TRUE(sim.ask("debian", ask::remove_feature{"qrexec"}));
  ASSERT_TRUE(sim.ask("debian", ask::start{}));
  sim.tools().connect_agent("debian", "user");
  sim.tools().guest_writes("debian", "/qubes-tools/qrexec", "1");
  ASSERT_TRUE(sim.ask("debian", ask::request_features{"/qubes-tools/"}));
  sim.run();
  EXPECT_THAT(sim.tools().synced(), ElementsAre("debian"));
}

TEST_P(menu_test, without_the_package_nothing_is_run) {
  sim.runtime().world()->machine.update([](model::host& x) { x.packages.clear(); });
  ASSERT_TRUE(sim.ask("app1", ask::set_property{"label", "blue"}));
  EXPECT_THAT(calls(), IsEmpty());
}

TEST_P(menu_test, status_tells_which_packages_there_are) {
  auto body = nlohmann::json::parse(say("qvmd.Status", "", "dom0").substr(2));
  EXPECT_EQ(body["packages"], nlohmann::json::array({"qubes-desktop-linux-common"}));
}

// -- other packages, by the same methods ----------------------------------------------------------

TEST_P(menu_test, a_workstation_of_whonix_without_its_gateway_gets_no_network) {
  sim.runtime().world()->machine.update(
      [](model::host& x) { x.packages = {model::package::whonix}; });
  ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", "sys-net0"}));
  EXPECT_EQ(say("admin.vm.Create.TemplateVM", "", "dom0", "name=whonix label=black")[0], '0');
  ASSERT_TRUE(sim.ask("whonix", ask::set_feature{"whonix-ws", "1"}));
  EXPECT_THAT(say("qvmd.Plan", "admin.vm.feature.Set+whonix-ws", "app0", "1"),
              HasSubstr("app0: netvm = "));
  EXPECT_EQ(say("admin.vm.Create.AppVM", "whonix", "dom0", "name=anon label=red")[0], '0');
  auto now = sim.world().look();
  EXPECT_THAT(now.find("anon")->tags, Contains("anon-vm"));
  EXPECT_EQ(now.find("anon")->properties.at("netvm"), model::value{model::none{}});
}

INSTANTIATE_TEST_SUITE_P(seeds, menu_test, ::testing::Range(std::uint64_t{1}, std::uint64_t{6}));

} // namespace qubes::tests
