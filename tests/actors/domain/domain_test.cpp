// One domain's life, through orders and the events a client sees.
#include "tests/actors/simulation.hpp"

#include "model/property/property.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

namespace qubes::tests {

using model::errc;
using model::power;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

struct domains : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), sample_host(3, 2)};

  /// Names of the events about one domain, since the last call.
  std::vector<std::string> told(const std::string& who) {
    auto result = std::vector<std::string>{};
    for (; heard < sim.events().size(); ++heard)
      if (sim.events()[heard].subject == who)
        result.push_back(sim.events()[heard].name);
    return result;
  }
  void forget() { heard = sim.events().size(); }

  std::string uuid(const std::string& who) { return sim.system().find(who)->uuid; }

  void TearDown() override {
    sim.check_rest();
    EXPECT_THAT(sim.violations(), testing::IsEmpty());
  }

  std::size_t heard = 0;
};

} // namespace

TEST_P(domains, start_tells_its_events_in_order) {
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  EXPECT_THAT(told("sys-net0"),
              ElementsAre("domain-pre-start", "domain-verify-files", "domain-pre-spawn",
                          "property-reset:xid", "property-reset:stubdom_xid",
                          "property-reset:start_time", "domain-spawn", "domain-qdb-create",
                          "domain-pre-unpaused", "domain-unpaused", "domain-start"));
}

TEST_P(domains, start_brings_the_whole_chain_of_netvms_up_once) {
  auto tickets = std::vector<std::uint64_t>{};
  for (auto i = 0; i < 3; ++i)
    tickets.push_back(sim.send(fmt::format("app{}", i), ask::start{}));
  sim.run();
  for (auto x : tickets)
    EXPECT_TRUE(*sim.answer_to(x)) << why(*sim.answer_to(x));
  for (auto x : {"sys-net0", "sys-net1", "app0", "app1", "app2"})
    EXPECT_EQ(sim.state_of(x), power::running) << x;
  EXPECT_EQ(sim.hypervisor().calls(drivers::fake_call::create), 5U);
}

TEST_P(domains, a_second_start_joins_the_first) {
  auto first = sim.send("app0", ask::start{});
  auto second = sim.send("app0", ask::start{});
  sim.run();
  EXPECT_TRUE(*sim.answer_to(first));
  EXPECT_TRUE(*sim.answer_to(second));
  EXPECT_EQ(sim.hypervisor().calls(drivers::fake_call::create), 3U);
}

TEST_P(domains, a_failed_start_of_a_netvm_fails_the_waiting_starts_and_is_named) {
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string& whom) {
    return which == drivers::fake_call::create && whom == uuid("sys-net0")
               ? std::optional{model::error{errc::hypervisor, "no memory", {}}}
               : std::nullopt;
  });
  auto result = sim.ask("app0", ask::start{});
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().text, HasSubstr("sys-net1"));
  EXPECT_THAT(result.error().text, HasSubstr("no memory"));
  for (auto x : {"sys-net0", "sys-net1", "app0"})
    EXPECT_EQ(sim.state_of(x), power::halted) << x;
  sim.hypervisor().set_script({});
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
}

/// The call has its turn in time, and then waits inside, as for a connection.
TEST_P(domains, a_call_that_was_given_up_is_not_made_afterwards) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string&) {
    if (which == drivers::fake_call::suspend)
      sim.pass(sim.world().settings.guest_call + std::chrono::seconds{1});
    return std::optional<model::error>{};
  });
  EXPECT_FALSE(sim.ask("app0", ask::pause{}));
  EXPECT_EQ(sim.hypervisor().calls(drivers::fake_call::suspend), 1U);
  EXPECT_EQ(sim.hypervisor().inspect(uuid("app0"))->state, power::running);
  sim.hypervisor().set_script({});
  EXPECT_TRUE(sim.ask("app0", ask::pause{}));
}

TEST_P(domains, a_foreign_guest_of_their_name_or_uuid_is_named_and_left_alone) {
  auto entries = std::map<std::string, std::string>{
      {"/local/domain/77/name", "app0"},
      {"/local/domain/77/vm", "/vm/" + uuid("app0")},
  };
  for (auto& [path, text] : entries) {
    ASSERT_TRUE(sim.xenstore().write(path, text));
    auto result = sim.ask("app0", ask::start{});
    ASSERT_FALSE(result) << path;
    EXPECT_EQ(result.error().code, errc::vm_error);
    EXPECT_THAT(result.error().text, HasSubstr("id 77"));
    EXPECT_EQ(sim.state_of("app0"), power::halted);
    EXPECT_EQ(sim.hypervisor().calls(drivers::fake_call::create), 0U);
    EXPECT_EQ(sim.hypervisor().calls(drivers::fake_call::destroy), 0U);
    ASSERT_TRUE(sim.xenstore().remove(path));
  }
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
}

TEST_P(domains, start_that_fails_after_creation_is_undone_and_told) {
  sim.hypervisor().set_script([](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::resume
               ? std::optional{model::error{errc::hypervisor, "boom", {}}}
               : std::nullopt;
  });
  auto result = sim.ask("sys-net0", ask::start{});
  ASSERT_FALSE(result);
  EXPECT_THAT(told("sys-net0"),
              ElementsAre("domain-pre-start", "domain-verify-files", "domain-pre-spawn",
                          "property-reset:xid", "property-reset:stubdom_xid",
                          "property-reset:start_time", "domain-spawn", "domain-qdb-create",
                          "domain-pre-unpaused", "domain-start-failed", "domain-stopped",
                          "property-reset:xid", "property-reset:stubdom_xid",
                          "property-reset:start_time", "domain-shutdown"));
  EXPECT_TRUE(sim.hypervisor().guests().empty());
}

TEST_P(domains, shutdown_and_kill_tell_their_events_in_order) {
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  forget();
  ASSERT_TRUE(sim.ask("sys-net0", ask::shutdown{.wait = true}));
  EXPECT_THAT(told("sys-net0"), ElementsAre("domain-pre-shutdown", "domain-stopped",
                                            "property-reset:xid", "property-reset:stubdom_xid",
                                            "property-reset:start_time", "domain-shutdown"));
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  forget();
  ASSERT_TRUE(sim.ask("sys-net0", ask::kill{}));
  EXPECT_THAT(told("sys-net0"),
              ElementsAre("domain-stopped", "property-reset:xid", "property-reset:stubdom_xid",
                          "property-reset:start_time", "domain-shutdown"));
}

TEST_P(domains, asked_to_shut_down_runs_until_its_guest_acts) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().occupy(uuid("app0"));
  auto now = [&] { return sim.world().board.read(sim.system().find("app0")->qid); };
  ASSERT_TRUE(sim.ask("app0", ask::shutdown{}));
  EXPECT_EQ(now().state, power::running);
  EXPECT_TRUE(now().going_down);
  EXPECT_EQ(sim.world().status.activities().at("app0").doing, "shutdown");
  auto again = sim.send("app0", ask::start{});
  sim.run_until_idle();
  EXPECT_FALSE(sim.answer_to(again)) << "down first, then up again";
  sim.hypervisor().give_in(uuid("app0"));
  sim.run();
  EXPECT_TRUE(*sim.answer_to(again));
  EXPECT_EQ(now().state, power::running);
  EXPECT_FALSE(now().going_down);
  EXPECT_EQ(sim.hypervisor().calls(drivers::fake_call::create), 4U) << "and two netvms";
}

TEST_P(domains, are_not_shutting_down_once_the_guest_ignored_the_request) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().occupy(uuid("app0"));
  auto refused = sim.ask("app0", ask::shutdown{.wait = true});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::vm_shutdown_timeout);
  EXPECT_FALSE(sim.world().board.read(sim.system().find("app0")->qid).going_down);
  EXPECT_FALSE(sim.world().status.activities().contains("app0"));
  EXPECT_TRUE(sim.ask("app0", ask::start{})) << "it runs";
  ASSERT_TRUE(sim.ask("app0", ask::shutdown{}));
  EXPECT_TRUE(sim.ask("app0", ask::start{})) << "it waited for a stop that does not come";
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

TEST_P(domains, are_transient_while_their_agent_is_gone) {
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"qrexec", "1"}));
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto state = [&] {
    auto now = sim.world().look();
    return wire_name(model::power_of(now.view(), *now.find("app0")));
  };
  EXPECT_EQ(state(), "Running");
  sim.tools().drop_agent("app0");
  sim.run_until_idle();
  EXPECT_EQ(state(), "Transient");
  sim.hypervisor().lose_connection();
  sim.run_until_idle();
  sim.pass(std::chrono::seconds{30});
  EXPECT_EQ(state(), "Transient");
  sim.tools().connect_agent("app0", "user");
  sim.run_until_idle();
  EXPECT_EQ(state(), "Running");
}

TEST_P(domains, are_not_transient_by_news_that_are_older_than_their_start) {
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"qrexec", "1"}));
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  caf::anon_send(sim.directory().find("app0")->domain, agent_news{false});
  sim.run_until_idle();
  auto now = sim.world().look();
  EXPECT_EQ(wire_name(model::power_of(now.view(), *now.find("app0"))), "Running");
}

TEST_P(domains, are_transient_when_their_agent_disconnects_at_once) {
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"qrexec", "1"}));
  auto state = [&] {
    auto now = sim.world().look();
    return wire_name(model::power_of(now.view(), *now.find("app0")));
  };
  auto started = sim.send("app0", ask::start{});
  while (!sim.tools().agent_connected("app0"))
    ASSERT_TRUE(sim.step());
  sim.tools().drop_agent("app0");
  sim.run();
  ASSERT_TRUE(*sim.answer_to(started));
  EXPECT_EQ(state(), "Transient") << "it left while the start went on";

  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  sim.tools().tell_of_agents(false);
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  EXPECT_EQ(state(), "Running");
  sim.tools().drop_agent("app0");
  sim.tools().tell_of_agents(true);
  sim.run_until_idle();
  EXPECT_EQ(state(), "Transient") << "what is told is what was told before it came";
}

TEST_P(domains, shutdown_of_a_netvm_with_clients_is_refused_and_names_them) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app2", ask::start{}));
  auto result = sim.ask("sys-net1", ask::shutdown{});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, errc::vm_in_use);
  EXPECT_THAT(result.error().text, HasSubstr("app0, app2"));
  EXPECT_EQ(sim.state_of("sys-net1"), power::running);
  EXPECT_TRUE(sim.ask("sys-net1", ask::shutdown{.force = true}));
  EXPECT_EQ(sim.state_of("sys-net1"), power::halted);
}

TEST_P(domains, clients_of_a_netvm_that_came_back_are_plugged_in_again) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  EXPECT_TRUE(sim.hypervisor().attached(uuid("app0")).empty());
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  EXPECT_THAT(sim.hypervisor().attached(uuid("app0")), ElementsAre(HasSubstr("sys-net1")));
}

TEST_P(domains, netvm_switch_of_a_running_domain_moves_its_interface) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net0"}));
  EXPECT_THAT(sim.hypervisor().attached(uuid("app0")), ElementsAre(HasSubstr("sys-net0")));
  ASSERT_TRUE(sim.ask("sys-net1", ask::shutdown{})) << "nobody uses it any more";
  auto result = sim.ask("app0", ask::set_property{"netvm", "sys-net1"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, errc::vm_not_started);
}

TEST_P(domains, kill_during_a_netvm_switch_answers_both) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto change = sim.send("app0", ask::set_property{"netvm", GetParam() % 2 == 0 ? "sys-net0" : ""});
  for (auto i = sim.chance()() % 40; i > 0 && sim.step(); --i) {
    // nop
  }
  auto kill = sim.send("app0", ask::kill{});
  sim.run();
  ASSERT_TRUE(sim.answer_to(change));
  EXPECT_TRUE(*sim.answer_to(kill)) << why(*sim.answer_to(kill));
  EXPECT_TRUE(sim.ask("app0", ask::set_property{"memory", "600"}))
      << "the next change is not stuck";
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
}

TEST_P(domains, paused_or_unpaused_twice_at_once_change_their_state_once) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto pauses = {sim.send("app0", ask::pause{}), sim.send("app0", ask::pause{})};
  sim.run();
  for (auto x : pauses)
    EXPECT_TRUE(*sim.answer_to(x)) << why(*sim.answer_to(x));
  EXPECT_EQ(sim.state_of("app0"), power::paused);
  auto first = sim.send("app0", ask::unpause{});
  auto second = sim.send("app0", ask::unpause{});
  sim.run();
  EXPECT_TRUE(*sim.answer_to(first)) << why(*sim.answer_to(first));
  ASSERT_FALSE(*sim.answer_to(second));
  EXPECT_EQ(sim.answer_to(second)->error().code, errc::vm_not_paused);
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

TEST_P(domains, kill_while_starting_leaves_nothing_behind) {
  auto start = sim.send("app0", ask::start{});
  for (auto i = sim.chance()() % 120; i > 0 && sim.step(); --i) {
    // nop
  }
  auto kill = sim.send("app0", ask::kill{});
  sim.run();
  ASSERT_TRUE(sim.answer_to(start));
  ASSERT_TRUE(sim.answer_to(kill));
  EXPECT_EQ(sim.state_of("app0"), power::halted);
}

TEST_P(domains, waiting_for_the_agent_holds_up_nothing_else) {
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"qrexec", "1"}));
  sim.lanes().hold("app0 agent");
  auto started = sim.send("app0", ask::start{});
  sim.run_until_idle();
  ASSERT_EQ(sim.lanes().held(), 1U);
  ASSERT_FALSE(sim.answer_to(started));
  auto set = sim.send("app0", ask::set_feature{"vm-config.key", "x"});
  auto listed = sim.send("app0", ask::list_available{"block"});
  auto firewall = sim.send("app0", ask::get_firewall{});
  sim.run_until_idle();
  for (auto x : {set, listed, firewall})
    ASSERT_TRUE(sim.answer_to(x) && *sim.answer_to(x)) << x;
  EXPECT_EQ(sim.tools().database("app0").at("/vm-config/key"), "x");
  sim.lanes().hold("");
  sim.run();
  EXPECT_TRUE(*sim.answer_to(started));
}

TEST_P(domains, that_wait_for_memory_are_shown_as_waiting_and_can_be_killed) {
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net0"}));
  sim.lanes().hold("app0 memory");
  auto started = sim.send("app0", ask::start{});
  sim.run_until_idle();
  EXPECT_EQ(sim.world().status.activities().at("app0").step, "memory: in line");
  sim.pass(std::chrono::hours{2});
  EXPECT_FALSE(sim.answer_to(started)) << "others' starts take their time";
  auto killed = sim.send("app0", ask::kill{});
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(killed));
  EXPECT_TRUE(*sim.answer_to(killed));
  EXPECT_FALSE(*sim.answer_to(started));
  sim.lanes().hold("");
  EXPECT_TRUE(sim.ask("app0", ask::start{})) << "its place in line was given up";
}

struct domains_whose_agent_is_awaited : domains {
  void SetUp() override {
    ASSERT_TRUE(sim.ask("app0", ask::set_feature{"qrexec", "1"}));
    sim.lanes().hold("app0 agent");
    started = sim.send("app0", ask::start{});
    sim.run_until_idle();
    ASSERT_EQ(sim.lanes().held(), 1U);
    ASSERT_EQ(sim.state_of("app0"), power::starting);
  }
  model::outcome<std::string> ask(order what) {
    auto ticket = sim.send("app0", std::move(what));
    sim.run_until_idle();
    auto* said = sim.answer_to(ticket);
    return said ? *said : model::fail(errc::internal, "it is not answered");
  }
  model::outcome<std::string> start_ended() {
    sim.lanes().hold("");
    sim.run();
    return *sim.answer_to(started);
  }

  std::uint64_t started = 0;
};

TEST_P(domains_whose_agent_is_awaited, can_be_shut_down) {
  auto down = ask(ask::shutdown{.wait = true});
  EXPECT_TRUE(down) << why(down);
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_THAT(why(start_ended()), HasSubstr("stopped while it started"));
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
}

TEST_P(domains_whose_agent_is_awaited, can_be_paused_and_go_on) {
  EXPECT_TRUE(ask(ask::pause{}));
  EXPECT_EQ(sim.state_of("app0"), power::paused);
  EXPECT_EQ(ask(ask::shutdown{}).error().code, errc::vm_not_running);
  EXPECT_TRUE(ask(ask::unpause{}));
  EXPECT_EQ(sim.state_of("app0"), power::starting);
  EXPECT_TRUE(start_ended());
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

TEST_P(domains_whose_agent_is_awaited, stay_paused_when_it_comes) {
  EXPECT_TRUE(ask(ask::pause{}));
  EXPECT_TRUE(start_ended());
  EXPECT_EQ(sim.state_of("app0"), power::paused);
  EXPECT_TRUE(sim.ask("app0", ask::unpause{}));
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

TEST_P(domains_whose_agent_is_awaited, are_destroyed_when_paused_and_shut_down_by_force) {
  EXPECT_TRUE(ask(ask::pause{}));
  EXPECT_TRUE(ask(ask::shutdown{.force = true}));
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_FALSE(start_ended());
}

TEST_P(domains, frozen_guest_is_degraded_and_can_be_killed) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().freeze(uuid("app0"));
  auto result = sim.ask("app0", ask::shutdown{.wait = true});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, errc::vm_shutdown_timeout);
  EXPECT_TRUE(sim.world().board.read(sim.system().find("app0")->qid).degraded);
  EXPECT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_EQ(sim.state_of("app0"), power::halted);
}

TEST_P(domains, crash_is_noticed_and_the_domain_can_start_again) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().crash(uuid("app0"));
  sim.run();
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
}

TEST_P(domains, a_lost_connection_fails_calls_at_once_and_states_are_read_again) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  sim.hypervisor().lose_connection();
  sim.run_until_idle();
  auto result = sim.ask("app2", ask::start{});
  EXPECT_TRUE(result || result.error().code == errc::hypervisor) << why(result);
  sim.pass(std::chrono::seconds{30});
  sim.run();
  EXPECT_EQ(sim.state_of("app0"), power::running);
  EXPECT_TRUE(sim.ask("app2", ask::start{}));
}

TEST_P(domains, an_actor_that_dies_is_spawned_again_and_other_domains_go_on) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto start = sim.send("app1", ask::start{});
  sim.step();
  sim.may_lose_track = true;
  caf::anon_send_exit(sim.directory().find("app1")->domain, caf::exit_reason::unhandled_exception);
  sim.run();
  ASSERT_TRUE(sim.answer_to(start)) << "a client of the dead actor is answered";
  EXPECT_TRUE(sim.ask("app0", ask::set_property{"memory", "600"}));
  EXPECT_TRUE(sim.ask("app1", ask::start{}));
  EXPECT_EQ(sim.state_of("app1"), power::running);
}

TEST_P(domains, pause_and_unpause_follow_the_table_of_legal_moves) {
  EXPECT_EQ(sim.ask("app0", ask::pause{}).error().code, errc::vm_not_running);
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  EXPECT_EQ(sim.ask("app0", ask::unpause{}).error().code, errc::vm_not_paused);
  forget();
  ASSERT_TRUE(sim.ask("app0", ask::pause{}));
  EXPECT_THAT(told("app0"), ElementsAre("domain-pre-paused", "domain-paused"));
  EXPECT_EQ(sim.ask("app0", ask::shutdown{}).error().code, errc::vm_not_running);
  ASSERT_TRUE(sim.ask("app0", ask::unpause{}));
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

TEST_P(domains, dom0_tells_its_memory_and_time_where_the_hypervisor_knows_them) {
  EXPECT_EQ(sim.ask("dom0", ask::current_state{}),
            "mem=4194304 mem_static_max=4194304 cputime=0 power_state=Running");
  sim.hypervisor().show_host(3000000, 77);
  ASSERT_TRUE(sim.xenstore().write("/local/domain/0/memory/static-max", "6291456"));
  sim.hypervisor().lose_connection();
  sim.run_until_idle();
  sim.pass(std::chrono::seconds{30});
  EXPECT_EQ(sim.ask("dom0", ask::current_state{}),
            "mem=3000000 mem_static_max=6291456 cputime=77 power_state=Running");
  auto now = sim.world().look();
  EXPECT_EQ(model::read_int({now.view(), now.find("dom0")}, "maxmem"), 6144);
}

TEST_P(domains, lifecycle_orders_to_dom0_are_refused) {
  const order all[]{ask::shutdown{}, ask::kill{},    ask::pause{},
                    ask::unpause{},  ask::suspend{}, ask::resume{}};
  for (auto& x : all)
    EXPECT_EQ(sim.ask("dom0", x).error().code, errc::vm_error);
  EXPECT_EQ(sim.ask("dom0", ask::start{}).error().code, errc::vm_not_halted);
}

TEST_P(domains, orders_that_others_carry_out_are_refused) {
  sim.may_lose_track = true; // no order of a client can do this
  EXPECT_EQ(sim.ask("app0", ask::create_label{"new", "0x112233"}).error().code, errc::internal);
  EXPECT_EQ(sim.ask("app0", ask::suspend_host{}).error().code, errc::internal);
  EXPECT_EQ(sim.ask("", ask::kill{}).error().code, errc::internal);
}

INSTANTIATE_TEST_SUITE_P(seeds, domains, ::testing::Range(std::uint64_t{0}, std::uint64_t{20}));
INSTANTIATE_TEST_SUITE_P(seeds, domains_whose_agent_is_awaited,
                         ::testing::Range(std::uint64_t{0}, std::uint64_t{5}));

} // namespace qubes::tests
