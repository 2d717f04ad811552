// A running guest's place in the network, by what its hypervisor says it has.
#include "model/property/property.hpp"
#include "model/xml/libvirt_xml.hpp"
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <ranges>

namespace qubes::tests {

using drivers::fake_call;
using model::errc;
using model::power;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

/// app0 and others use sys-net1, which uses sys-net0.
struct networks : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), with_volumes(sample_host(3, 2))};

  const model::domain& record(const std::string& who) { return *sim.system().find(who); }
  std::string uuid(const std::string& who) { return record(who).uuid; }

  std::string read(const std::string& who, std::string_view property) {
    auto now = sim.world().look();
    return model::read_text({now.view(), now.find(who)}, property);
  }

  bool degraded(const std::string& who) { return sim.world().board.read(record(who).qid).degraded; }

  /// The netvms to which the hypervisor has connected this guest by an interface.
  std::vector<std::string> plugged(const std::string& who) {
    auto found = sim.hypervisor().devices(uuid(who));
    auto result = std::vector<std::string>{};
    if (found)
      for (auto& x : found->links)
        result.push_back(x.netvm);
    return result;
  }

  /// app0 is paused then, and its record names a netvm that runs and that it is not connected to.
  void change_while_paused() {
    ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
    ASSERT_TRUE(sim.ask("app0", ask::start{}));
    ASSERT_TRUE(sim.ask("app0", ask::pause{}));
    ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net0"}));
  }

  /// Of one domain, "" for all.
  void refuse(fake_call what, const std::string& whom, const std::string& why) {
    auto id = whom.empty() ? whom : uuid(whom);
    sim.hypervisor().set_script([=](fake_call which, const std::string& guest) {
      return which == what && (id.empty() || guest == id)
                 ? std::optional{model::error{errc::hypervisor, why, {}}}
                 : std::nullopt;
    });
  }

  /// A guest that another program, or an earlier daemon, has made; at this netvm, "" for none.
  void appear(const std::string& who, const std::string& netvm) {
    auto interface = fmt::format("<interface type='ethernet'><mac address='{}'/>"
                                 "<backenddomain name='{}'/></interface>",
                                 read(who, "mac"), netvm);
    for (auto& x : record(who).volumes)
      if (x.pool != "linux-kernel")
        sim.disks().leave_running(x.vid);
    ASSERT_TRUE(sim.hypervisor().create(
        uuid(who), fmt::format("<domain><name>{}</name><devices>{}</devices></domain>", who,
                               netvm.empty() ? "" : interface)));
    ASSERT_TRUE(sim.hypervisor().resume(uuid(who)));
    sim.run();
    ASSERT_EQ(sim.state_of(who), power::running);
  }

  /// XenStore says which life of the netvm serves the next guest that is made.
  void serve_next(const std::string& who, std::int32_t backend) {
    auto xid = sim.hypervisor().calls(fake_call::create) + 1;
    auto at = fmt::format("/libxl/{}/device/vif/0", xid);
    ASSERT_TRUE(sim.xenstore().write(at + "/mac", read(who, "mac")));
    ASSERT_TRUE(sim.xenstore().write(
        at + "/backend", fmt::format("/local/domain/{}/backend/vif/{}/0", backend, xid)));
  }

  void expect_sound() {
    sim.check_rest();
    EXPECT_THAT(sim.violations(), IsEmpty());
  }
};

} // namespace

TEST_P(networks, netvm_none_takes_the_interface_away_before_its_event) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  EXPECT_THAT(plugged("app0"), IsEmpty());
  EXPECT_FALSE(degraded("app0"));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net1"}));
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  expect_sound();
}

TEST_P(networks, the_same_netvm_chosen_again_connects_anew) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto connects = [&] {
    return std::ranges::count(sim.events(), "net-domain-connect", &model::event::name);
  };
  auto before = connects();
  auto attached = sim.hypervisor().calls(fake_call::attach);
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net1"}));
  EXPECT_EQ(connects(), before + 1);
  EXPECT_EQ(sim.hypervisor().calls(fake_call::attach), attached + 1);
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net1"}));
  EXPECT_EQ(connects(), before + 2) << "its entries are told anew after none";
  expect_sound();
}

TEST_P(networks, a_client_that_was_paused_when_its_netvm_ended_is_connected_when_both_run) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::pause{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  EXPECT_TRUE(record("app0").features.find("deferred-netvm-original"));
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::unpause{}));
  sim.run();
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  EXPECT_FALSE(record("app0").features.find("deferred-netvm-original"));
  EXPECT_FALSE(degraded("app0"));
}

TEST_P(networks, an_interface_that_cannot_be_taken_away_refuses_the_change) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  refuse(fake_call::detach, "app0", "the device is busy");
  for (auto other : {"", "sys-net0"}) {
    auto result = sim.ask("app0", ask::set_property{"netvm", other});
    ASSERT_FALSE(result) << "netvm '" << other << "'";
    EXPECT_THAT(result.error().text, HasSubstr("the device is busy"));
    EXPECT_EQ(read("app0", "netvm"), "sys-net1");
    EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
    EXPECT_FALSE(degraded("app0"));
  }
  sim.hypervisor().set_script({});
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  EXPECT_THAT(plugged("app0"), IsEmpty());
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net1"}));
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  EXPECT_FALSE(degraded("app0"));
  expect_sound();
}

TEST_P(networks, a_new_netvm_that_cannot_be_reached_is_tried_again_until_it_can) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  refuse(fake_call::attach, "app0", "no backend");
  sim.send("app0", ask::set_property{"netvm", "sys-net0"});
  sim.run_until_idle();
  EXPECT_TRUE(degraded("app0"));
  EXPECT_THAT(plugged("app0"), IsEmpty());
  sim.hypervisor().set_script({});
  sim.pass(std::chrono::minutes{2});
  EXPECT_FALSE(degraded("app0"));
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net0"));
  expect_sound();
}

/// A change of the default cannot be refused for one client: its record does not change.
TEST_P(networks, a_client_that_cannot_leave_the_default_netvm_is_degraded_until_it_does) {
  ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", "sys-net1"}));
  const auto both = std::vector<std::string>{"app0", "app1"};
  for (auto& who : both) {
    ASSERT_TRUE(sim.ask(who, ask::reset_property{"netvm"}));
    ASSERT_TRUE(sim.ask(who, ask::start{}));
    ASSERT_THAT(plugged(who), ElementsAre("sys-net1"));
  }
  for (auto other : {"sys-net0", "", "sys-net1"}) {
    auto before = plugged("app0");
    refuse(fake_call::detach, "", "the device is busy");
    ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", other}));
    for (auto& who : both) {
      EXPECT_EQ(degraded(who), !before.empty()) << who << " before '" << other << "'";
      if (!before.empty()) {
        EXPECT_THAT(plugged(who), ElementsAre(before.front()));
        EXPECT_THAT(sim.world().status.degraded().at(who), HasSubstr("the device is busy"));
      }
    }
    sim.hypervisor().set_script({});
    sim.run_until_idle();
    EXPECT_EQ(degraded("app0"), !before.empty()) << "it waits before it tries again";
    sim.pass(std::chrono::minutes{2});
    for (auto& who : both) {
      EXPECT_FALSE(degraded(who)) << who << " at '" << other << "'";
      EXPECT_EQ(plugged(who),
                *other ? std::vector<std::string>{other} : std::vector<std::string>{});
    }
    expect_sound();
  }
}

/// It wants back what it could not leave: nothing is attached a second time.
TEST_P(networks, a_client_that_could_not_leave_the_default_netvm_stays_when_that_is_set_again) {
  ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", "sys-net1"}));
  ASSERT_TRUE(sim.ask("app0", ask::reset_property{"netvm"}));
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto attached = sim.hypervisor().calls(fake_call::attach);
  refuse(fake_call::detach, "app0", "the device is busy");
  ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", ""}));
  ASSERT_TRUE(degraded("app0"));
  ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", "sys-net1"}));
  EXPECT_FALSE(degraded("app0"));
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  EXPECT_EQ(sim.hypervisor().calls(fake_call::attach), attached);
  sim.pass(std::chrono::minutes{2});
  expect_sound();
}

TEST_P(networks, an_adopted_client_starts_no_netvm_and_is_connected_when_that_starts) {
  appear("app0", "");
  EXPECT_EQ(sim.state_of("sys-net1"), power::halted) << "a restart of the daemon starts nothing";
  EXPECT_EQ(sim.hypervisor().calls(fake_call::create), 1U);
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  EXPECT_FALSE(sim.ask("sys-net1", ask::shutdown{})) << "it has a client";
}

TEST_P(networks, an_adopted_client_keeps_its_interface) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  auto before = sim.hypervisor().calls(fake_call::attach);
  appear("app0", "sys-net1");
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  EXPECT_EQ(sim.hypervisor().calls(fake_call::attach), before);
  EXPECT_EQ(sim.hypervisor().calls(fake_call::detach), 0U);
  EXPECT_FALSE(sim.ask("sys-net1", ask::shutdown{})) << "it has a client";
  expect_sound();
}

TEST_P(networks, an_adopted_client_at_another_netvm_is_moved_to_its_own) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  appear("app0", "sys-net0");
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  expect_sound();
}

TEST_P(networks, an_adopted_domain_without_netvm_loses_its_interface) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  appear("app0", "sys-net1");
  EXPECT_THAT(plugged("app0"), IsEmpty());
  expect_sound();
}

TEST_P(networks, an_interface_of_a_former_life_of_the_netvm_is_replaced) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  auto netvm = sim.world().board.read(record("sys-net1").qid).xid;
  for (auto backend : {netvm, netvm + 100}) {
    serve_next("app0", backend);
    auto before = sim.hypervisor().calls(fake_call::attach);
    appear("app0", "sys-net1");
    EXPECT_EQ(sim.hypervisor().calls(fake_call::attach), backend == netvm ? before : before + 1);
    ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  }
  expect_sound();
}

/// Where nothing tells which life of the netvm serves an interface, a new life does not serve it.
TEST_P(networks, an_interface_whose_netvm_is_unknown_is_replaced_when_its_netvm_starts) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().keep_books(nullptr);
  ASSERT_TRUE(sim.xenstore().remove("/libxl"));
  sim.hypervisor().listen({}); // the daemon ends before it hears of the crash
  sim.excuse("sys-net1");
  sim.hypervisor().crash(uuid("sys-net1"));
  sim.restart();
  ASSERT_EQ(sim.state_of("app0"), power::running);
  auto before = sim.hypervisor().calls(fake_call::attach);
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  EXPECT_EQ(sim.hypervisor().calls(fake_call::attach), before + 1);
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  expect_sound();
}

/// A guess would say that a domain is offline which is not.
TEST_P(networks, an_interface_that_the_hypervisor_does_not_tell_of_is_asked_for_until_it_does) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  refuse(fake_call::inspect, "", "not now");
  sim.restart();
  sim.run();
  ASSERT_EQ(sim.state_of("app0"), power::running);
  EXPECT_TRUE(degraded("app0"));
  EXPECT_THAT(why(sim.ask("app0", ask::set_property{"netvm", ""})),
              HasSubstr("does not tell what 'app0' is connected to"));
  EXPECT_EQ(record("app0").properties.at("netvm"), model::value{"sys-net1"});
  auto before = sim.hypervisor().calls(fake_call::inspect);
  sim.hypervisor().crash(uuid("app1")); // a wake-up of one part is none of another
  sim.pass(std::chrono::hours{1});
  EXPECT_LE(sim.hypervisor().calls(fake_call::inspect), before + 200);
  sim.hypervisor().set_script({});
  sim.pass(std::chrono::minutes{2});
  EXPECT_FALSE(degraded("app0"));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  EXPECT_THAT(plugged("app0"), IsEmpty());
  expect_sound();
}

TEST_P(networks,
       a_change_of_netvm_asks_at_once_what_the_guest_has_and_holds_no_netvm_when_refused) {
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net0"}));
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  refuse(fake_call::inspect, "app0", "not now");
  sim.restart();
  sim.run();
  EXPECT_THAT(why(sim.ask("app0", ask::set_property{"netvm", "sys-net1"})),
              HasSubstr("does not tell what 'app0' is connected to"));
  EXPECT_TRUE(sim.ask("sys-net1", ask::shutdown{.wait = true})) << "it has no client";
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  sim.hypervisor().set_script({});
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net1"}));
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  expect_sound();
}

TEST_P(networks, a_change_made_while_paused_is_made_up_for_once_the_network_is_known) {
  constexpr auto mark = "deferred-netvm-original";
  change_while_paused();
  refuse(fake_call::inspect, "app0", "not now");
  sim.restart();
  sim.run();
  ASSERT_TRUE(sim.ask("app0", ask::unpause{}));
  sim.run();
  EXPECT_TRUE(record("app0").features.find(mark)) << "nothing was made up for yet";
  sim.hypervisor().set_script({});
  sim.pass(std::chrono::minutes{2});
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net0"));
  EXPECT_FALSE(record("app0").features.find(mark));
  expect_sound();
}

/// The order's answer and the hypervisor's news both say that a guest goes on, in either order.
TEST_P(networks, a_change_made_while_paused_is_made_up_for_and_told_once) {
  change_while_paused();
  auto before = sim.events().size();
  ASSERT_TRUE(sim.ask("app0", ask::unpause{}));
  sim.run();
  for (auto name : {"domain-unpaused", "property-pre-set:netvm", "property-set:netvm"})
    EXPECT_EQ(
        std::ranges::count(sim.events() | std::views::drop(before), name, &model::event::name), 1)
        << name;
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net0"));
  expect_sound();
}

TEST_P(networks, a_change_made_while_paused_is_made_up_for_when_another_unpaused_it_unseen) {
  change_while_paused();
  sim.hypervisor().lose_news([] { return true; });
  ASSERT_TRUE(sim.hypervisor().resume(uuid("app0")));
  sim.hypervisor().lose_news({});
  sim.hypervisor().lose_connection();
  sim.run_until_idle();
  sim.pass(std::chrono::minutes{2});
  EXPECT_EQ(sim.state_of("app0"), power::running);
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net0"));
  EXPECT_FALSE(record("app0").features.find("deferred-netvm-original"));
  expect_sound();
}

TEST_P(networks, an_interface_is_replaced_when_its_netvm_fell_while_the_network_was_unknown) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().keep_books(nullptr);
  ASSERT_TRUE(sim.xenstore().remove("/libxl"));
  refuse(fake_call::inspect, "app0", "not now");
  sim.restart();
  sim.run();
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  auto before = sim.hypervisor().calls(fake_call::attach);
  sim.hypervisor().set_script({});
  sim.pass(std::chrono::minutes{2});
  EXPECT_EQ(sim.hypervisor().calls(fake_call::attach), before + 1);
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  expect_sound();
}

/// It never was told of a netvm that it is connected to only now.
TEST_P(networks, a_guest_that_a_daemon_finds_without_its_interface_is_told_of_its_network) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.lanes().hold("app0", drivers::lane::guest);
  auto set = sim.send("app0", ask::set_property{"netvm", "sys-net1"});
  while (record("app0").properties.at("netvm") != model::value{"sys-net1"})
    ASSERT_TRUE(sim.step());
  sim.lanes().forget();
  sim.restart();
  EXPECT_TRUE(sim.answer_to(set));
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  expect_sound();
}

/// The shutdown of the netvm takes as long as its timeout; the life of the guest that wanted to be
/// connected to the netvm is over before.
TEST_P(networks, a_change_that_waits_for_a_netvm_ends_with_the_life_it_was_for) {
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().occupy(uuid("sys-net0"));
  ASSERT_TRUE(sim.ask("sys-net0", ask::shutdown{}));
  auto set = sim.send("app0", ask::set_property{"netvm", "sys-net0"});
  sim.run_until_idle();
  ASSERT_FALSE(sim.answer_to(set));
  auto kill = sim.send("app0", ask::kill{});
  auto again = sim.send("app0", ask::set_property{"netvm", ""});
  auto start = sim.send("app0", ask::start{});
  sim.run_until_idle();
  for (auto x : {kill, set, again, start}) {
    ASSERT_TRUE(sim.answer_to(x));
    EXPECT_TRUE(*sim.answer_to(x)) << why(*sim.answer_to(x));
  }
  EXPECT_EQ(sim.state_of("app0"), power::running);
  sim.hypervisor().give_in(uuid("sys-net0"));
  sim.run();
  EXPECT_EQ(sim.state_of("sys-net0"), power::halted) << "nobody is connected to it";
  expect_sound();
}

TEST_P(networks, an_interface_for_a_guest_that_ended_is_not_given_to_the_next) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  sim.lanes().hold("app0", drivers::lane::guest);
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  ASSERT_EQ(sim.lanes().held(), 1U);
  sim.send("app0", ask::kill{});
  sim.run_until_idle();
  sim.send("app0", ask::set_property{"netvm", ""});
  sim.run_until_idle();
  sim.send("app0", ask::start{});
  sim.run_until_idle();
  sim.lanes().hold("");
  sim.run();
  ASSERT_EQ(sim.state_of("app0"), power::running);
  EXPECT_THAT(plugged("app0"), IsEmpty());
  expect_sound();
}

TEST_P(networks, a_change_of_netvm_whose_turn_comes_too_late_is_not_made) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  auto before = sim.hypervisor().calls(fake_call::attach);
  sim.lanes().hold("app0", drivers::lane::guest);
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  ASSERT_EQ(sim.lanes().held(), 1U);
  sim.pass(sim.world().settings.guest_call + std::chrono::seconds{1});
  EXPECT_TRUE(degraded("app0"));
  sim.pass(std::chrono::seconds{3});
  ASSERT_EQ(sim.lanes().held(), 2U) << "the one that was given up, and the next";
  sim.lanes().hold("");
  sim.run();
  EXPECT_EQ(sim.hypervisor().calls(fake_call::attach), before + 1);
  EXPECT_THAT(plugged("app0"), ElementsAre("sys-net1"));
  EXPECT_FALSE(degraded("app0"));
  expect_sound();
}

TEST_P(networks, a_start_whose_connection_is_lost_ends_its_guest_before_its_volumes) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  auto start = sim.send("app0", ask::start{});
  while (sim.hypervisor().calls(fake_call::create) < 3) // the guest is there, the answer is not
    ASSERT_TRUE(sim.step());
  sim.hypervisor().lose_connection();
  sim.run();
  ASSERT_TRUE(sim.answer_to(start));
  auto& answer = *sim.answer_to(start);
  EXPECT_TRUE(answer || answer.error().code == errc::hypervisor) << why(answer);
  sim.pass(std::chrono::minutes{1});
  sim.run();
  EXPECT_EQ(sim.state_of("app0"), answer ? power::running : power::halted);
  EXPECT_FALSE(degraded("app0"));
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
  expect_sound();
}

INSTANTIATE_TEST_SUITE_P(seeds, networks, ::testing::Range(std::uint64_t{0}, std::uint64_t{10}));

} // namespace qubes::tests
