// Why a domain is as it is, as qvmd.Why tells, and how much of that callers other than dom0 see.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace qubes::tests {

using namespace std::string_literals;
using model::errc;
using nlohmann::json;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

namespace {

struct why_reply : ::testing::Test {
  simulation sim{1, sample_host(2, 1)};

  std::string say(const std::string& source, const std::string& destination,
                  const std::string& method = "qvmd.Why") {
    auto who = sim.post(fmt::format("{} {} name {}", method, source, destination) + "\0"s);
    auto result = sim.reply_to(who).frames.at(0); // answered at once, without waiting
    sim.run_until_idle();
    return result;
  }

  json why(const std::string& who, const std::string& source = "dom0") {
    return json::parse(say(source, who).substr(2), nullptr, false);
  }

  json status() { return json::parse(say("dom0", "dom0", "qvmd.Status").substr(2)); }

  static json check(const json& from, const std::string& about) {
    for (auto& x : from["start"]["checks"])
      if (x["about"] == about)
        return x;
    return {};
  }

  /// Names of the operations that are remembered, those that failed with a "!".
  static std::vector<std::string> operations(const json& from) {
    auto result = std::vector<std::string>{};
    for (auto& x : from["operations"])
      result.push_back(x["operation"].get<std::string>() + (x["failure"].is_null() ? "" : "!"));
    return result;
  }

  void fail(drivers::fake_call call) {
    sim.hypervisor().set_script([call](drivers::fake_call which, const std::string&) {
      return which == call ? std::optional{model::error{errc::hypervisor, "no luck", "try again"}}
                           : std::nullopt;
    });
  }
};

} // namespace

// -- what was -------------------------------------------------------------------------------------

TEST_F(why_reply, tells_the_steps_of_a_start_and_the_end_of_it) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  auto x = why("app0");
  EXPECT_EQ(x["state"], "Halted");
  EXPECT_THAT(operations(x), ElementsAre("kill", "start"));
  auto steps = std::vector<std::string>{};
  for (auto& step : x["operations"][1]["steps"])
    steps.push_back(step["name"]);
  EXPECT_THAT(steps, testing::IsSupersetOf({"permission", "netvm", "memory", "create", "unpause"}));
  EXPECT_THAT(operations(why("sys-net0")), ElementsAre("start")) << "it came up for app0";
  EXPECT_THAT(operations(why("app1")), IsEmpty());
}

TEST_F(why_reply, a_start_that_failed_comes_first_with_step_cause_and_remedy) {
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  fail(drivers::fake_call::create);
  EXPECT_FALSE(sim.ask("app0", ask::start{}));
  sim.hypervisor().set_script(nullptr);
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto x = why("app0");
  EXPECT_THAT(operations(x), ElementsAre("start!", "start"));
  auto& failure = x["operations"][0]["failure"];
  EXPECT_EQ(failure["step"], "create");
  EXPECT_THAT(failure["cause"].get<std::string>(), HasSubstr("no luck"));
  EXPECT_EQ(failure["exception"], "QubesException");
  EXPECT_EQ(x["operations"][0]["steps"].back()["name"], "create");
  EXPECT_EQ(x["operations"][0]["latest"], false);
  EXPECT_EQ(x["operations"][1]["latest"], true);
}

TEST_F(why_reply, a_refused_shutdown_of_a_netvm_names_its_client) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  EXPECT_FALSE(sim.ask("sys-net0", ask::shutdown{}));
  auto x = why("sys-net0");
  EXPECT_THAT(operations(x), ElementsAre("shutdown!", "start"));
  EXPECT_THAT(x["operations"][0]["failure"]["cause"].get<std::string>(), HasSubstr("app0"));
}

TEST_F(why_reply, a_guest_that_stopped_by_itself_differs_from_a_guest_that_was_shut_down) {
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  auto uuid = sim.system().find("sys-net0")->uuid;
  sim.hypervisor().crash(uuid);
  sim.run();
  EXPECT_THAT(operations(why("sys-net0")), ElementsAre("stop", "start"));
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net0", ask::shutdown{.force = false, .wait = true}));
  EXPECT_THAT(operations(why("sys-net0")), ElementsAre("shutdown", "start", "stop", "start"));
}

TEST_F(why_reply, an_order_that_found_nothing_to_do_is_no_operation) {
  EXPECT_FALSE(sim.ask("app0", ask::unpause{}));
  EXPECT_FALSE(sim.ask("app0", ask::shutdown{}));
  EXPECT_THAT(operations(why("app0")), IsEmpty());
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::pause{}));
  ASSERT_TRUE(sim.ask("app0", ask::unpause{}));
  EXPECT_THAT(operations(why("app0")), ElementsAre("unpause", "pause", "start"));
}

TEST_F(why_reply, a_domain_that_is_half_made_is_told_with_what_makes_it) {
  EXPECT_THAT(why("app0")["findings"], IsEmpty());
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"qvmctl-unfinished", "clone of work, by 1 2 3"}));
  auto x = why("app0")["findings"];
  ASSERT_EQ(x.size(), 1U);
  EXPECT_EQ(x[0]["text"], "half made: clone of work; the same command goes on with it, 'qvmctl "
                          "remove app0' removes it");
}

TEST_F(why_reply, operations_outlive_a_restart_of_the_daemon) {
  fail(drivers::fake_call::create);
  EXPECT_FALSE(sim.ask("sys-net0", ask::start{}));
  sim.hypervisor().set_script(nullptr);
  auto before = why("sys-net0")["operations"][0]["failure"];
  sim.restart();
  EXPECT_EQ(why("sys-net0")["operations"][0]["failure"], before);
}

TEST_F(why_reply, a_new_domain_of_the_same_name_has_no_operations) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  ASSERT_TRUE(sim.ask("app0", ask::remove{}));
  EXPECT_THAT(*sim.disk().list("operations"), testing::SizeIs(1)) << "that of sys-net0";
  auto request = model::creation{};
  request.type = model::klass::app;
  request.based_on = "debian";
  request.name = *model::domain_name::parse("app0");
  request.label = "red";
  ASSERT_TRUE(sim.ask("", ask::create{std::move(request)}));
  EXPECT_THAT(operations(why("app0")), IsEmpty());
}

TEST_F(why_reply, an_operation_that_cannot_be_written_costs_only_its_record) {
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  sim.disk().fail_at(0, "No space left on device");
  EXPECT_TRUE(sim.ask("sys-net0", ask::pause{}));
  EXPECT_THAT(operations(why("sys-net0")), ElementsAre("pause", "start"));
  sim.restart();
  EXPECT_THAT(operations(why("sys-net0")), ElementsAre("start"));
}

TEST_F(why_reply, status_lists_what_failed_within_the_hour_and_no_steps) {
  fail(drivers::fake_call::create);
  EXPECT_FALSE(sim.ask("sys-net0", ask::start{}));
  auto x = status();
  ASSERT_EQ(x["failures"].size(), 1U);
  EXPECT_EQ(x["failures"][0]["domain"], "sys-net0");
  EXPECT_EQ(x["failures"][0]["operation"], "start");
  EXPECT_THAT(x["failures"][0]["cause"].get<std::string>(), HasSubstr("no luck"));
  EXPECT_FALSE(x.contains("timings"));
  sim.pass(std::chrono::minutes{61});
  EXPECT_THAT(status()["failures"], IsEmpty());
  EXPECT_THAT(operations(why("sys-net0")), ElementsAre("start!")) << "it is remembered longer";
}

// -- what is --------------------------------------------------------------------------------------

TEST_F(why_reply, names_the_call_that_is_waited_for_and_its_duration) {
  sim.lanes().hold("sys-net0 memory");
  sim.send("app0", ask::start{});
  sim.run_until_idle();
  sim.pass(std::chrono::seconds{3});
  auto x = why("app0");
  EXPECT_EQ(x["state"], "Transient");
  ASSERT_EQ(x["waits"].size(), 1U) << x.dump(1) << why("sys-net0").dump(1);
  EXPECT_EQ(x["waits"][0]["doing"], "start");
  EXPECT_EQ(x["waits"][0]["step"], "netvm");
  EXPECT_GE(x["waits"][0]["for_ms"], 3000);
  EXPECT_THAT(why("sys-net0")["waits"][0]["step"].get<std::string>(), StartsWith("memory"));
  EXPECT_TRUE(x["start"].is_null()) << "it is starting";
  sim.lanes().hold("");
  sim.run();
}

TEST_F(why_reply, findings_of_a_site_template_are_listed_for_its_domains) {
  sim.runtime().world()->site_templates.write(
      std::make_shared<std::vector<model::site_template>>(std::vector<model::site_template>{
          {"/t/by-name/app0.xml", "app0", "write it into libvirt/app0.xml"},
          {"/t/xen-user.xml", "", "write it for each"}}));
  EXPECT_EQ(why("app0")["findings"].size(), 2U);
  EXPECT_EQ(why("app0")["findings"][0]["text"], "write it into libvirt/app0.xml");
  ASSERT_EQ(why("app1")["findings"].size(), 1U);
  EXPECT_EQ(why("app1")["findings"][0]["file"], "/t/xen-user.xml");
  EXPECT_THAT(why("dom0")["findings"], IsEmpty());
}

TEST_F(why_reply, names_changes_of_libvirt_xml_that_no_start_reads) {
  sim.runtime().world()->site_overlays.write(std::make_shared<std::vector<model::site_overlay>>(
      std::vector<model::site_overlay>{{"/l/app0.xml", "app0"}, {"/l/dom0.xml", "dom0"}}));
  EXPECT_THAT(why("app0")["findings"], IsEmpty());
  ASSERT_EQ(why("dom0")["findings"].size(), 1U);
  EXPECT_EQ(why("dom0")["findings"][0]["file"], "/l/dom0.xml");
}

TEST_F(why_reply, names_changes_of_libvirt_xml_that_no_start_can_read) {
  sim.runtime().world()->site_overlays.write(std::make_shared<std::vector<model::site_overlay>>(
      std::vector<model::site_overlay>{{"/l/app0.xml", "app0", "a link leads nowhere"}}));
  ASSERT_EQ(why("app0")["findings"].size(), 1U);
  EXPECT_EQ(why("app0")["findings"][0]["text"],
            "/l/app0.xml cannot be read, and 'app0' does not start: a link leads nowhere");
}

// -- what would be --------------------------------------------------------------------------------

TEST_F(why_reply, a_sound_domain_has_no_obstacle_to_its_start) {
  sim.memory().free = std::uint64_t{8} << 30;
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  ASSERT_TRUE(sim.ask("app1", ask::kill{}));
  auto x = why("app0");
  EXPECT_TRUE(x["start"]["shortfall"].is_null()) << x.dump(1);
  EXPECT_EQ(check(x, "permission")["prospect"], "fine");
  EXPECT_EQ(check(x, "memory")["prospect"], "fine");
  EXPECT_THAT(check(x, "memory")["text"].get<std::string>(), HasSubstr("8192 MiB were free"));
}

TEST_F(why_reply, free_memory_is_unknown_until_it_is_reported) {
  auto x = why("app0");
  EXPECT_EQ(check(x, "memory")["prospect"], "unknown");
  EXPECT_TRUE(x["start"]["shortfall"].is_null());
}

TEST_F(why_reply, the_first_shortfall_has_the_words_of_a_refused_start) {
  sim.memory().free = std::uint64_t{1} << 20;
  why("app0");
  sim.pass(std::chrono::seconds{2});
  why("app0");
  EXPECT_EQ(why("app0")["start"]["shortfall"]["about"], "memory");
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"prohibit-start", "it is infected"}));
  auto x = why("app0")["start"]["shortfall"];
  auto refused = sim.ask("app0", ask::start{});
  ASSERT_FALSE(refused);
  EXPECT_EQ(x["about"], "permission");
  EXPECT_EQ(x["text"], refused.error().text);
  EXPECT_EQ(x["remedy"], refused.error().hint);
}

TEST_F(why_reply, a_netvm_that_cannot_start_is_an_obstacle_for_its_clients) {
  ASSERT_TRUE(sim.ask("sys-net0", ask::set_feature{"prohibit-start", "no network today"}));
  auto x = why("app0");
  EXPECT_EQ(x["start"]["shortfall"]["about"], "netvm");
  EXPECT_THAT(x["start"]["shortfall"]["text"].get<std::string>(), HasSubstr("no network today"));
  EXPECT_THAT(check(x, "netvm")["domains"], ElementsAre("sys-net0"));
}

TEST_F(why_reply, a_missing_device_is_listed_with_its_holder) {
  auto attachment = model::attachment{"block", "app1", "sda", "", {}};
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::assign_device{"block", "app1+sda", "mode='required'"}));
  EXPECT_EQ(check(why("app0"), "devices")["prospect"], "unknown") << "its backend will be asked";
  sim.runtime().world()->holders.found(attachment, "sys-net0");
  auto x = why("app0");
  EXPECT_EQ(x["start"]["shortfall"]["about"], "devices");
  EXPECT_THAT(x["start"]["shortfall"]["text"].get<std::string>(), HasSubstr("'sys-net0'"));
  sim.runtime().world()->holders.give_back_all("sys-net0");
  ASSERT_TRUE(sim.ask("app1", ask::kill{}));
  x = why("app0");
  EXPECT_EQ(x["start"]["shortfall"]["about"], "devices") << "its backend is down";
  EXPECT_THAT(x["start"]["shortfall"]["remedy"].get<std::string>(), HasSubstr("start 'app1'"));
}

TEST_F(why_reply, a_kernel_that_is_not_installed_is_listed_as_missing) {
  sim.runtime().world()->machine.update([](model::host& x) { x.kernels.clear(); });
  EXPECT_EQ(why("app0")["start"]["shortfall"]["about"], "kernel");
}

TEST_F(why_reply, dom0_has_no_start) {
  auto x = why("dom0");
  EXPECT_EQ(x["state"], "Running");
  EXPECT_TRUE(x["start"].is_null());
}

// -- who may see what was, is and would be --------------------------------------------------------

TEST_F(why_reply, callers_see_only_domains_that_the_policy_allows) {
  EXPECT_THAT(say("app0", "app1"), StartsWith("2\0PermissionDenied"s));
  sim.rules("admin.vm.List * app0 app1 allow target=@adminvm\n");
  auto x = why("app1", "app0");
  EXPECT_EQ(x["domain"], "app1");
  EXPECT_THAT(check(x, "netvm")["domains"], IsEmpty()) << "sys-net0 is not for its eyes";
  EXPECT_THAT(check(why("app1"), "netvm")["domains"], ElementsAre("sys-net0"));
}

} // namespace qubes::tests
