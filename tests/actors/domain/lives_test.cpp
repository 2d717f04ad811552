// Lives beside each other: a netvm and its clients, and what is left of a domain that is gone.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace qubes::tests {

using model::power;
using testing::SizeIs;

namespace {

struct domain_lives : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), with_volumes(sample_host(2, 2))};

  std::string uuid(const std::string& who) const { return sim.system().find(who)->uuid; }

  model::live facts(const std::string& who) const {
    return sim.world().board.read(sim.system().find(who)->qid);
  }

  void refuse(drivers::fake_call what, const std::string& whom) {
    sim.hypervisor().set_script(
        [=, id = uuid(whom)](drivers::fake_call which, const std::string& guest) {
          return which == what && guest == id
                     ? std::optional{model::error{model::errc::hypervisor, "not now", {}}}
                     : std::nullopt;
        });
  }

  static constexpr auto shutdown_timeout = std::chrono::seconds{60}; // by default

  auto heard(std::string_view subject, std::string_view name, std::size_t since = 0) const {
    auto& all = sim.events();
    return std::count_if(all.begin() + static_cast<std::ptrdiff_t>(since), all.end(),
                         [&](auto& x) { return x.subject == subject && x.name == name; });
  }
};

} // namespace

INSTANTIATE_TEST_SUITE_P(seeds, domain_lives,
                         ::testing::Range(std::uint64_t{0}, std::uint64_t{10}));

TEST_P(domain_lives, of_clients_do_not_start_their_netvm_when_its_start_fails) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  sim.tools().lose_agent("sys-net1");
  auto since = sim.events().size();
  EXPECT_FALSE(sim.ask("sys-net1", ask::start{}));
  sim.run();
  EXPECT_EQ(heard("sys-net1", "domain-pre-start", since), 1);
  EXPECT_EQ(sim.state_of("sys-net1"), power::halted);
}

TEST_P(domain_lives, that_begin_again_start_no_netvm_and_get_their_interface_when_it_comes) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  sim.may_lose_track = true;
  caf::anon_send_exit(sim.directory().find("app0")->domain, caf::exit_reason::unhandled_exception);
  sim.run();
  EXPECT_EQ(sim.state_of("sys-net1"), power::halted) << "nobody asked for it";
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  EXPECT_THAT(sim.hypervisor().attached(uuid("app0")), SizeIs(1));
}

TEST_P(domain_lives, that_got_their_network_back_are_well_again) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string& whom) {
    return which == drivers::fake_call::attach && whom == uuid("app0")
               ? std::optional{model::error{model::errc::hypervisor, "not now", {}}}
               : std::nullopt;
  });
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  auto qid = sim.system().find("app0")->qid;
  EXPECT_TRUE(sim.world().board.read(qid).degraded);
  sim.hypervisor().set_script({});
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  EXPECT_THAT(sim.hypervisor().attached(uuid("app0")), SizeIs(1));
  EXPECT_FALSE(sim.world().board.read(qid).degraded);
}

/// Whichever step of the start the netvm was killed in.
TEST_P(domain_lives, of_clients_leave_a_killed_netvm_alone) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  sim.send("sys-net1", ask::start{});
  for (auto left = sim.chance()() % 500; left > 0 && sim.step(); --left) {
  }
  auto kill = sim.send("sys-net1", ask::kill{});
  sim.run();
  auto* answer = sim.answer_to(kill);
  ASSERT_TRUE(answer);
  if (*answer) {
    EXPECT_EQ(sim.state_of("sys-net1"), power::halted);
  }
}

/// A guest lives on without its daemon, and so does a build of a guest that is under way.
TEST_P(domain_lives, with_an_unfinished_start_are_complete_or_ended_after_a_restart) {
  for (auto who : {"app0", "sys-net1"})
    ASSERT_TRUE(sim.ask(who, ask::set_feature{"qrexec", "1"}));
  for (auto moment = sim.chance()() % 8; moment < 800; moment += 8) {
    auto ticket = sim.send("app0", ask::start{});
    for (auto left = moment; left > 0 && sim.step(); --left) {
    }
    auto done = sim.answer_to(ticket) != nullptr;
    sim.restart();
    sim.run();
    for (auto who : {"app0", "sys-net1"}) {
      auto guests = sim.hypervisor().guests();
      auto guest = std::ranges::find(guests, uuid(who), &drivers::guest::uuid);
      auto there = guest != guests.end();
      ASSERT_EQ(there, sim.state_of(who) == power::running) << who << " after " << moment;
      if (!there)
        continue;
      ASSERT_EQ(guest->state, power::running) << who << " after " << moment;
      ASSERT_FALSE(sim.tools().database(who).empty()) << who << " after " << moment;
      ASSERT_TRUE(sim.tools().agent_connected(who)) << who << " after " << moment;
    }
    ASSERT_TRUE(sim.ask("app0", ask::start{})) << "after " << moment;
    ASSERT_EQ(sim.state_of("app0"), power::running) << "after " << moment;
    ASSERT_TRUE(sim.ask("app0", ask::kill{}));
    ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
    EXPECT_THAT(sim.violations(), ::testing::IsEmpty());
    if (done)
      break;
  }
  EXPECT_EQ(sim.run_disk().list({}).value(), std::vector<std::string>{});
}

/// News of an end come once: who cannot be asked then is asked later.
TEST_P(domain_lives, that_end_while_the_hypervisor_is_unreachable_are_noticed) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  refuse(drivers::fake_call::inspect, "app0");
  sim.hypervisor().crash(uuid("app0"));
  sim.run();
  EXPECT_EQ(sim.state_of("app0"), power::running);
  sim.pass(std::chrono::minutes{1});
  EXPECT_LE(sim.hypervisor().calls(drivers::fake_call::inspect), 40U) << "with back-off";
  sim.hypervisor().set_script({});
  sim.pass(std::chrono::minutes{3});
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_THAT(sim.violations(), ::testing::IsEmpty());
}

/// The hypervisor goes on with a build whose daemon is gone, on volumes that it opened.
TEST_P(domain_lives, whose_build_outlives_the_daemon_are_ended_before_their_volumes) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  auto asked = false;
  sim.hypervisor().build_ghosts([] { return true; });
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string& guest) {
    if (which != drivers::fake_call::create || guest != uuid("app0"))
      return std::optional<model::error>{};
    asked = true;
    return std::optional{model::error{model::errc::hypervisor, "nobody waits for this", {}}};
  });
  sim.send("app0", ask::start{});
  while (!asked && sim.step()) {
  }
  ASSERT_EQ(sim.hypervisor().building().size(), 1U);
  sim.hypervisor().set_script({});
  sim.restart();
  sim.run();
  sim.pass(std::chrono::minutes{2});
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  for (auto& guest : sim.hypervisor().guests())
    EXPECT_NE(guest.uuid, uuid("app0"));
  EXPECT_EQ(sim.run_disk().list({}).value(), std::vector<std::string>{});
  EXPECT_THAT(sim.violations(), ::testing::IsEmpty());
  auto since = sim.events().size();
  caf::anon_send_exit(sim.directory().find("app0")->domain, caf::exit_reason::unhandled_exception);
  sim.run();
  EXPECT_EQ(heard("app0", "domain-start-failed", since), 0) << "that start was undone before";
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

/// A domain that gets its number or its name is neither degraded nor running for that.
TEST_P(domain_lives, leave_no_rows_on_the_boards) {
  auto qid = sim.system().find("app0")->qid;
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::attach
               ? std::optional{model::error{model::errc::hypervisor, "not now", {}}}
               : std::nullopt;
  });
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  ASSERT_TRUE(sim.world().status.degraded().contains("app0"));
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  ASSERT_TRUE(sim.ask("app0", ask::remove{}));
  sim.run();
  EXPECT_FALSE(sim.world().status.degraded().contains("app0"));
  EXPECT_EQ(sim.world().board.read(qid), model::live{});
}

// -- what waits for a life ------------------------------------------------------------------------

TEST_P(domain_lives, a_start_that_waits_for_a_stop_is_answered_when_there_is_none) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().occupy(uuid("app0"));
  ASSERT_TRUE(sim.ask("app0", ask::shutdown{}));
  auto start = sim.send("app0", ask::start{});
  sim.run_until_idle();
  ASSERT_FALSE(sim.answer_to(start));
  sim.pass(shutdown_timeout);
  ASSERT_TRUE(sim.answer_to(start));
  EXPECT_TRUE(*sim.answer_to(start));
  EXPECT_FALSE(facts("app0").going_down);
  sim.hypervisor().give_in(uuid("app0"));
  sim.run();
  EXPECT_EQ(sim.state_of("app0"), power::halted) << "the start woke up long after its answer";
}

TEST_P(domain_lives, each_request_to_shut_down_has_its_own_deadline) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().occupy(uuid("sys-net1"));
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::shutdown{}));
  sim.pass(shutdown_timeout / 2);
  auto second = sim.send("sys-net1", ask::shutdown{.wait = true});
  sim.run_until_idle();
  auto start = sim.send("app0", ask::start{});
  sim.pass(shutdown_timeout / 2);
  EXPECT_TRUE(facts("sys-net1").going_down) << "the second request still waits";
  EXPECT_FALSE(sim.answer_to(second));
  EXPECT_FALSE(sim.answer_to(start));
  sim.pass(shutdown_timeout);
  EXPECT_FALSE(facts("sys-net1").going_down);
  sim.run();
  ASSERT_TRUE(sim.answer_to(second));
  EXPECT_FALSE(*sim.answer_to(second));
  ASSERT_TRUE(sim.answer_to(start));
  EXPECT_TRUE(*sim.answer_to(start)) << "its netvm takes clients again";
}

TEST_P(domain_lives, a_failed_kill_leaves_the_request_to_shut_down_alone) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  sim.hypervisor().occupy(uuid("sys-net1"));
  refuse(drivers::fake_call::destroy, "sys-net1");
  auto patient = sim.send("sys-net1", ask::shutdown{.wait = true});
  sim.run_until_idle();
  auto kill = sim.send("sys-net1", ask::kill{});
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(kill));
  EXPECT_FALSE(*sim.answer_to(kill));
  EXPECT_FALSE(sim.answer_to(patient));
  EXPECT_TRUE(facts("sys-net1").going_down);
  EXPECT_TRUE(facts("sys-net1").degraded);
  sim.pass(shutdown_timeout);
  ASSERT_TRUE(sim.answer_to(patient));
  EXPECT_EQ(sim.answer_to(patient)->error().code, model::errc::vm_shutdown_timeout);
  EXPECT_EQ(sim.state_of("sys-net1"), power::running);
  ASSERT_TRUE(sim.ask("app0", ask::start{})) << "it takes clients again";
  sim.hypervisor().set_script({});
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  EXPECT_FALSE(facts("sys-net1").degraded);
}

TEST_P(domain_lives, a_paused_netvm_that_cannot_be_shut_down_takes_clients_when_it_goes_on) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::pause{}));
  refuse(drivers::fake_call::destroy, "sys-net1");
  auto refused = sim.ask("sys-net1", ask::shutdown{.force = true});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, testing::HasSubstr("not now"));
  EXPECT_EQ(heard("sys-net1", "domain-shutdown-failed"), 1);
  sim.hypervisor().set_script({});
  ASSERT_TRUE(sim.ask("sys-net1", ask::unpause{}));
  auto start = sim.send("app0", ask::start{});
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(start));
  EXPECT_TRUE(*sim.answer_to(start));
}

TEST_P(domain_lives, a_domain_that_goes_down_takes_no_clients_although_it_became_a_netvm_since) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().occupy(uuid("app0")); // its guest is not asked before that ends
  auto down = sim.send("app0", ask::shutdown{.wait = true});
  sim.run_until_idle();
  ASSERT_TRUE(facts("app0").going_down);
  sim.send("app0", ask::set_property{"provides_network", "True"});
  sim.run_until_idle();
  sim.send("app1", ask::set_property{"netvm", "app0"});
  sim.run_until_idle();
  auto now = sim.world().look();
  ASSERT_EQ(model::read_domain({now.view(), now.find("app1")}, "netvm"), now.find("app0"));
  auto start = sim.send("app1", ask::start{});
  sim.run_until_idle();
  EXPECT_FALSE(sim.answer_to(start)) << "it waits";
  EXPECT_FALSE(sim.answer_to(down));
  EXPECT_NE(sim.state_of("app1"), power::running);
  sim.hypervisor().give_in(uuid("app0"));
  sim.run();
  ASSERT_TRUE(sim.answer_to(start));
  EXPECT_TRUE(*sim.answer_to(start)) << "its netvm came up again for it";
  EXPECT_TRUE(sim.answer_to(down));
}

TEST_P(domain_lives, that_were_degraded_are_well_when_their_next_actor_finds_nothing_wrong) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  refuse(drivers::fake_call::destroy, "app0");
  EXPECT_FALSE(sim.ask("app0", ask::kill{}));
  ASSERT_TRUE(facts("app0").degraded);
  sim.hypervisor().set_script({});
  sim.may_lose_track = true;
  caf::anon_send_exit(sim.directory().find("app0")->domain, caf::exit_reason::unhandled_exception);
  sim.run();
  EXPECT_FALSE(facts("app0").degraded);
  EXPECT_FALSE(sim.world().status.degraded().contains("app0"));
  EXPECT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_FALSE(facts("app0").degraded);
}

TEST_P(domain_lives, a_guest_that_could_not_be_destroyed_is_reported_and_destroyed_later) {
  refuse(drivers::fake_call::destroy, "app0");
  sim.tools().lose_agent("app0");
  auto failed = sim.send("app0", ask::start{});
  while (!sim.answer_to(failed) && (sim.step() || (sim.pass(std::chrono::seconds{1}), true))) {
  }
  sim.run_until_idle();
  EXPECT_FALSE(*sim.answer_to(failed));
  EXPECT_NE(sim.state_of("app0"), power::halted) << "its guest lives";
  auto start = sim.send("app0", ask::start{});
  auto kill = sim.send("app0", ask::kill{});
  sim.run_until_idle();
  for (auto x : {start, kill}) {
    ASSERT_TRUE(sim.answer_to(x));
    EXPECT_THAT(sim.answer_to(x)->error().text, testing::HasSubstr("not now"));
  }
  sim.hypervisor().set_script({});
  EXPECT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_FALSE(facts("app0").degraded);
}

/// The actor of a domain may be gone: the host sleeps and wakes all the same.
TEST_P(domain_lives, that_break_off_do_not_keep_the_host_awake) {
  for (auto x : {"app0", "app1"})
    ASSERT_TRUE(sim.ask(x, ask::start{}));
  auto asleep = sim.send("", ask::suspend_host{});
  for (auto left = sim.chance()() % 30; left > 0 && sim.step(); --left) {
  }
  sim.may_lose_track = true;
  caf::anon_send_exit(sim.directory().find("app0")->domain, caf::exit_reason::unhandled_exception);
  auto pass_ten_minutes = [this] {
    for (auto i = 0; i < 10; ++i)
      sim.pass(std::chrono::minutes{1});
  };
  pass_ten_minutes();
  EXPECT_TRUE(sim.answer_to(asleep));
  auto awake = sim.send("", ask::resume_host{});
  pass_ten_minutes();
  EXPECT_TRUE(sim.answer_to(awake));
}

// -- who counts as a client -----------------------------------------------------------------------

/// Whichever step of the start the change of the default comes in.
TEST_P(domain_lives, that_begin_are_clients_of_the_netvm_that_the_record_names_then) {
  ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", "sys-net1"}));
  ASSERT_TRUE(sim.ask("app0", ask::reset_property{"netvm"}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  auto start = sim.send("app0", ask::start{});
  for (auto left = sim.chance()() % 300; left > 0 && sim.step(); --left) {
  }
  ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", "sys-net0"}));
  sim.run();
  ASSERT_TRUE(*sim.answer_to(start));
  EXPECT_TRUE(sim.ask("sys-net1", ask::shutdown{.wait = true}));
  auto used = sim.ask("sys-net0", ask::shutdown{});
  ASSERT_FALSE(used);
  EXPECT_EQ(used.error().code, model::errc::vm_in_use);
  sim.run();
  EXPECT_THAT(sim.hypervisor().devices(uuid("app0"))->links,
              testing::ElementsAre(testing::Field(&model::network_link::netvm, "sys-net0")));
}

/// The default may change between the last look at the record and the build of the guest.
TEST_P(domain_lives, that_are_built_have_their_rules_at_the_netvm_they_are_built_on) {
  ASSERT_TRUE(sim.ask("app0", ask::reset_property{"netvm"}));
  for (auto netvm : {"sys-net0", "sys-net1"})
    ASSERT_TRUE(sim.ask(netvm, ask::start{}));
  for (auto moment = 0; moment < 120; ++moment) {
    for (auto netvm : {"sys-net1", "sys-net0"})
      sim.tools().forget(netvm);
    ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", "sys-net1"}));
    auto start = sim.send("app0", ask::start{});
    for (auto left = moment; left > 0 && sim.step(); --left) {
    }
    sim.send("", ask::set_property{"default_netvm", "sys-net0"});
    while (!sim.hypervisor().devices(uuid("app0")) && sim.step()) {
    }
    auto built = sim.hypervisor().devices(uuid("app0"));
    ASSERT_TRUE(built);
    ASSERT_THAT(built->links, SizeIs(1));
    auto knows_it = std::ranges::any_of(sim.tools().written(built->links[0].netvm), [](auto& x) {
      return x.path.starts_with("/qubes-firewall/10.137.0.");
    });
    EXPECT_TRUE(knows_it) << "at moment " << moment;
    sim.run();
    ASSERT_TRUE(*sim.answer_to(start));
    ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  }
}

/// A change waits for a netvm that halts; when that stays, the change leads elsewhere.
TEST_P(domain_lives, a_reservation_ends_with_the_change_it_is_for) {
  ASSERT_TRUE(sim.ask("", ask::set_property{"default_netvm", "sys-net1"}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net0"}));
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  sim.hypervisor().occupy(uuid("sys-net1"));
  ASSERT_TRUE(sim.ask("sys-net1", ask::shutdown{}));
  auto change = sim.send("app0", ask::reset_property{"netvm"});
  sim.run_until_idle();
  ASSERT_FALSE(sim.answer_to(change));
  auto other = sim.send("", ask::set_property{"default_netvm", "sys-net0"});
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(other));
  sim.pass(shutdown_timeout);
  ASSERT_TRUE(sim.answer_to(change));
  EXPECT_TRUE(*sim.answer_to(change));
  sim.hypervisor().give_in(uuid("sys-net1"));
  sim.run();
  if (sim.state_of("sys-net1") == power::running) {
    EXPECT_TRUE(sim.ask("sys-net1", ask::shutdown{.wait = true}));
  }
  EXPECT_EQ(sim.ask("sys-net0", ask::shutdown{}).error().code, model::errc::vm_in_use);
}

// -- what takes long ------------------------------------------------------------------------------

/// The clock of the host is set while a call for the domain is under way, forth and back.
TEST_P(domain_lives, begin_however_the_clock_is_set_meanwhile) {
  for (auto by : {std::chrono::hours{2}, std::chrono::hours{-4}}) {
    sim.lanes().hold("app0");
    auto start = sim.send("app0", ask::start{});
    sim.run_until_idle();
    ASSERT_FALSE(sim.answer_to(start));
    ASSERT_GT(sim.lanes().held(), 0U);
    sim.step_clock(by);
    sim.pass(std::chrono::seconds{2});
    EXPECT_FALSE(sim.answer_to(start)) << by.count() << " hours make it overdue";
    sim.lanes().hold("");
    sim.run();
    ASSERT_TRUE(sim.answer_to(start));
    EXPECT_TRUE(*sim.answer_to(start)) << why(*sim.answer_to(start));
    ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  }
  EXPECT_THAT(sim.violations(), ::testing::IsEmpty());
}

/// The client is told that the change takes long, and the change goes on as usual.
TEST_P(domain_lives, follow_a_change_that_was_long_on_its_way_to_the_disk) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  sim.lanes().hold("store");
  auto since = sim.events().size();
  auto change = sim.send("app0", ask::set_property{"netvm", "sys-net0"});
  auto global = sim.send("", ask::set_property{"check_updates_vm", "False"});
  sim.run_until_idle();
  sim.pass(sim.world().settings.commit + std::chrono::seconds{1});
  for (auto x : {change, global}) {
    ASSERT_TRUE(sim.answer_to(x));
    EXPECT_EQ(sim.answer_to(x)->error().code, model::errc::timed_out);
  }
  EXPECT_EQ(heard("app0", "property-set:netvm", since), 0);
  sim.lanes().hold("");
  sim.run();
  EXPECT_EQ(heard("app0", "property-set:netvm", since), 1);
  EXPECT_EQ(heard("", "property-set:check_updates_vm", since), 1);
  EXPECT_THAT(sim.hypervisor().devices(uuid("app0"))->links,
              testing::ElementsAre(testing::Field(&model::network_link::netvm, "sys-net0")));
  EXPECT_TRUE(sim.ask("sys-net1", ask::shutdown{.wait = true})) << "nobody is its client";
}

/// qubes.xml is read again while a change of the domain has prepared the boot and waits for the
/// disk.
TEST_P(domain_lives, start_with_the_host_as_the_record_says_after_a_reload) {
  for (auto pass = 0; pass < 20; ++pass) {
    auto wanted = pass % 2 == 0;
    auto change = sim.send("app0", ask::set_property{"autostart", wanted ? "True" : "False"});
    for (auto left = sim.chance()() % 40; left > 0 && sim.step(); --left) {
    }
    caf::anon_send(sim.world().store, atom::reload_v);
    caf::anon_send(sim.world().registry, file_changed{});
    sim.run();
    ASSERT_TRUE(*sim.answer_to(change));
    EXPECT_EQ(sim.boot().domains.contains("app0"), wanted);
  }
}

/// To attach a device the domain asks its backend first, which does not answer before the next
/// life.
TEST_P(domain_lives, are_given_no_device_that_an_earlier_one_asked_for) {
  for (auto who : {"app0", "app1"})
    ASSERT_TRUE(sim.ask(who, ask::start{}));
  sim.tools().guest_writes("app1", "/qubes-block-devices/sda/desc", "a disk");
  sim.tools().guest_writes("app1", "/qubes-block-devices/sda/size", "1000");
  sim.tools().guest_writes("app1", "/qubes-block-devices/sda/mode", "w");
  sim.tools().guest_writes("app1", "/qubes-block-devices", "");
  sim.run();
  sim.lanes().hold("app1");
  auto attach = sim.send("app0", ask::attach_device{"block", "app1+sda"});
  sim.run_until_idle();
  ASSERT_FALSE(sim.answer_to(attach));
  ASSERT_GT(sim.lanes().held(), 0U);
  sim.send("app0", ask::kill{});
  sim.run_until_idle();
  sim.send("app0", ask::start{});
  sim.run_until_idle();
  ASSERT_EQ(sim.state_of("app0"), power::running);
  sim.lanes().hold("");
  sim.run();
  ASSERT_TRUE(sim.answer_to(attach));
  EXPECT_EQ(sim.answer_to(attach)->error().code, model::errc::vm_not_running);
  EXPECT_THAT(sim.hypervisor().attached(uuid("app0")),
              testing::Not(testing::Contains(testing::HasSubstr("sda"))));
}

TEST_P(domain_lives, that_are_killed_while_they_wait_for_their_agent_wait_no_more) {
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"qrexec", "1"}));
  sim.lanes().hold("app0 agent");
  sim.send("app0", ask::start{});
  sim.run_until_idle();
  ASSERT_EQ(sim.lanes().held(), 1U);
  sim.send("app0", ask::kill{});
  sim.run_until_idle();
  sim.lanes().hold("");
  sim.run();
  ASSERT_FALSE(sim.tools().agents().empty());
  EXPECT_TRUE(sim.tools().agents().back().stop.stop_requested());
}

TEST_P(domain_lives, that_are_removed_answer_each_waiting_request_with_the_reason) {
  sim.lanes().hold("app0", drivers::lane::disk);
  auto notes = sim.send("app0", ask::get_notes{});
  sim.run_until_idle();
  ASSERT_FALSE(sim.answer_to(notes));
  auto removal = sim.send("app0", ask::remove{});
  sim.run_until_idle();
  sim.lanes().hold("");
  sim.run();
  ASSERT_TRUE(*sim.answer_to(removal));
  ASSERT_TRUE(sim.answer_to(notes));
  auto& how = *sim.answer_to(notes);
  EXPECT_TRUE(how || how.error().code == model::errc::vm_not_found) << why(how);
}

/// The netvm had no client yet, so that the shutdown was allowed; the next client starts it again.
TEST_P(domain_lives, of_clients_begin_after_the_start_of_their_netvm_was_shut_down) {
  sim.lanes().hold("varlibqubes:appvms/sys-net1/");
  auto start = sim.send("sys-net1", ask::start{});
  sim.run_until_idle();
  auto down = sim.send("sys-net1", ask::shutdown{});
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(down));
  EXPECT_TRUE(*sim.answer_to(down)) << why(*sim.answer_to(down));
  sim.lanes().hold("");
  sim.run();
  ASSERT_TRUE(sim.answer_to(start));
  EXPECT_EQ(sim.answer_to(start)->error().text, "'sys-net1' was shut down while it started");
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
  EXPECT_EQ(sim.state_of("sys-net1"), power::running);
}

/// A pause that the client was told has failed is not done when the connection is there again.
TEST_P(domain_lives, are_left_alone_by_calls_that_a_lost_connection_left_in_line) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.lanes().hold("app0", drivers::lane::guest);
  auto pause = sim.send("app0", ask::pause{});
  sim.run_until_idle();
  sim.hypervisor().lose_connection();
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(pause));
  EXPECT_THAT(sim.answer_to(pause)->error().text, testing::HasSubstr("before this could be done"));
  sim.lanes().hold("");
  sim.pass(std::chrono::seconds{10});
  sim.run();
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

/// What the domain's actor had still to do when it broke off is done by storage and the registry.
TEST_P(domain_lives, that_are_removed_leave_nothing_though_their_actor_ended) {
  auto who = sim.directory().find("app0")->domain;
  sim.lanes().hold("app0");
  auto removal = sim.send("app0", ask::remove{});
  sim.run_until_idle();
  ASSERT_FALSE(sim.system().find("app0"));
  ASSERT_FALSE(sim.answer_to(removal));
  caf::anon_send_exit(who, caf::exit_reason::unhandled_exception);
  sim.run_until_idle();
  sim.lanes().hold("");
  sim.run();
  ASSERT_TRUE(sim.answer_to(removal));
  EXPECT_TRUE(*sim.answer_to(removal)) << why(*sim.answer_to(removal));
  EXPECT_FALSE(sim.disks().owners().contains("app0"));
  sim.check_rest();
  EXPECT_THAT(sim.violations(), ::testing::IsEmpty());
}

/// The hypervisor says that the domain is off before the news of its stop has come.
TEST_P(domain_lives, that_have_gone_down_are_not_said_to_hang) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string& whom) {
    return which == drivers::fake_call::shutdown && whom == uuid("app0")
               ? std::optional{model::error{model::errc::vm_not_started, "it is powered off", {}}}
               : std::nullopt;
  });
  auto ticket = sim.send("app0", ask::shutdown{.wait = true});
  sim.run_until_idle();
  sim.hypervisor().crash(uuid("app0"));
  sim.run();
  ASSERT_TRUE(sim.answer_to(ticket));
  EXPECT_TRUE(sim.answer_to(ticket)->has_value()) << why(*sim.answer_to(ticket));
}

// -- what is told ---------------------------------------------------------------------------------

TEST_P(domain_lives, a_restored_connection_has_no_event_unpaused_for_a_guest_that_shuts_down) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.send("app0", ask::shutdown{});
  sim.lanes().hold("app0");
  sim.run_until_idle();
  auto since = sim.events().size();
  sim.hypervisor().lose_connection();
  sim.run_until_idle();
  sim.pass(std::chrono::seconds{5});
  EXPECT_EQ(heard("app0", "domain-unpaused", since), 0);
  sim.lanes().hold("");
  sim.run();
}

/// Whichever step of a start or a stop the domain's actor ends in.
TEST_P(domain_lives, that_break_off_leave_no_guest_without_volumes) {
  const order orders[]{ask::start{}, ask::kill{}, ask::start{}, ask::shutdown{}};
  sim.may_lose_track = true;
  for (auto& x : orders) {
    sim.send("app0", x);
    for (auto left = sim.chance()() % 250; left > 0 && sim.step(); --left) {
    }
    caf::anon_send_exit(sim.directory().find("app0")->domain,
                        caf::exit_reason::unhandled_exception);
    sim.run();
  }
  sim.pass(std::chrono::minutes{5});
  sim.run();
  sim.check_rest();
  EXPECT_THAT(sim.violations(), testing::IsEmpty());
}

} // namespace qubes::tests
