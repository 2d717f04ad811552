// Containers beside other guests: two hypervisors with a connection each, and one runtime.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace qubes::tests {

using model::errc;
using model::hypervisor_id;
using model::power;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

namespace {

/// app0 and sys-net0 are containers, app1 and sys-net1 are not.
model::system mixed_host() {
  auto x = with_volumes(sample_host(2, 2));
  auto edit = [&](std::string_view name, const char* netvm, bool contained) {
    auto copy = *x.find(name);
    copy.properties["netvm"] = netvm ? model::value{std::string{netvm}} : model::value{};
    if (contained)
      copy.properties["virt_mode"] = std::string{"lxc"};
    x.put(std::make_shared<model::domain>(std::move(copy)));
  };
  edit("sys-net0", nullptr, true);
  edit("app0", "sys-net0", true);
  edit("sys-net1", nullptr, false);
  edit("app1", "sys-net1", false);
  return x;
}

struct container_host : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), mixed_host(), {.containers = true}};

  model::live facts(const std::string& who) const {
    return sim.world().board.read(sim.system().find(who)->qid);
  }
  std::string uuid(const std::string& who) const { return sim.system().find(who)->uuid; }
  auto heard(std::string_view subject, std::string_view name) const {
    return std::ranges::count_if(sim.events(),
                                 [&](auto& x) { return x.subject == subject && x.name == name; });
  }
};

} // namespace

INSTANTIATE_TEST_SUITE_P(seeds, container_host,
                         ::testing::Range(std::uint64_t{0}, std::uint64_t{5}));

/// A program other than this daemon has started the guest.
TEST_P(container_host, a_guest_with_the_uuid_of_another_is_left_alone) {
  sim.containers().listen({}); // the daemon hears no news of containers
  ASSERT_TRUE(sim.containers().create(uuid("app0"), "<domain><name>stranger</name></domain>"));
  auto started = sim.ask("app0", ask::start{});
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message(), HasSubstr("virsh destroy"));
  EXPECT_THAT(sim.containers().guests(), SizeIs(1)) << "the stranger";
}

TEST_P(container_host, each_domain_starts_on_the_hypervisor_of_its_mode) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  EXPECT_THAT(sim.containers().guests(), SizeIs(2)) << "and its netvm";
  EXPECT_THAT(sim.hypervisor().guests(), SizeIs(2));
  EXPECT_EQ(facts("app0").at, hypervisor_id::containers);
  EXPECT_EQ(facts("app1").at, hypervisor_id::host);
  EXPECT_THAT(sim.containers().definition(uuid("app0")), HasSubstr("type=\"lxc\""));
  EXPECT_THAT(sim.hypervisor().definition(uuid("app1")), HasSubstr("type=\"xen\""));
}

TEST_P(container_host, a_container_has_the_events_of_a_domain_without_those_of_an_agent) {
  for (auto who : {"sys-net0", "sys-net1"}) {
    ASSERT_TRUE(sim.ask(who, ask::start{}));
    ASSERT_TRUE(sim.ask(who, ask::pause{}));
    ASSERT_TRUE(sim.ask(who, ask::unpause{}));
    ASSERT_TRUE(sim.ask(who, ask::shutdown{.wait = true}));
  }
  for (auto name : {"domain-pre-start", "domain-spawn", "domain-unpaused", "domain-start",
                    "domain-paused", "domain-stopped", "domain-shutdown"})
    EXPECT_EQ(heard("sys-net0", name), heard("sys-net1", name)) << name;
  EXPECT_EQ(heard("sys-net0", "domain-qdb-create"), 0);
  EXPECT_EQ(heard("sys-net1", "domain-qdb-create"), 1);
  EXPECT_THAT(sim.tools().database("sys-net0"), IsEmpty());
}

TEST_P(container_host, a_connection_that_is_lost_costs_its_own_domains_only) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  sim.containers().set_script(
      [](drivers::fake_call which, const std::string&) -> std::optional<model::error> {
        if (which == drivers::fake_call::connect)
          return model::error{errc::hypervisor, "no route to it", {}};
        return std::nullopt;
      });
  sim.containers().lose_connection();
  sim.run();
  auto refused = sim.ask("app0", ask::pause{});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::hypervisor);
  EXPECT_THAT(refused.error().text, HasSubstr("containers"));
  EXPECT_TRUE(sim.ask("app1", ask::pause{}));
  EXPECT_TRUE(sim.ask("app1", ask::unpause{}));
  EXPECT_FALSE(sim.world().status.hypervisor(hypervisor_id::containers).connected);
  EXPECT_TRUE(sim.world().status.hypervisor(hypervisor_id::host).connected);
  EXPECT_EQ(sim.state_of("app0"), power::running) << "as far as anybody knows";
  sim.containers().crash(uuid("app0"));
  sim.containers().set_script({});
  sim.pass(std::chrono::minutes{1});
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_EQ(sim.state_of("sys-net0"), power::running);
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
}

TEST_P(container_host, a_running_domain_is_adopted_on_the_hypervisor_it_runs_on) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  auto before = facts("app0").xid;
  sim.restart();
  EXPECT_EQ(sim.state_of("app0"), power::running);
  EXPECT_EQ(facts("app0").xid, before);
  EXPECT_EQ(facts("app0").at, hypervisor_id::containers);
  EXPECT_EQ(facts("app1").at, hypervisor_id::host);
  EXPECT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_THAT(sim.containers().guests(), SizeIs(1));
}

TEST_P(container_host, an_unreachable_hypervisor_does_not_delay_the_daemon) {
  sim.containers().set_script(
      [](drivers::fake_call which, const std::string&) -> std::optional<model::error> {
        if (which == drivers::fake_call::connect)
          return model::error{errc::hypervisor, "no such socket", {}};
        return std::nullopt;
      });
  sim.containers().lose_connection();
  sim.restart();
  EXPECT_TRUE(sim.ask("app1", ask::start{}));
  auto refused = sim.ask("app0", ask::start{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("no such socket"));
  EXPECT_EQ(sim.state_of("app0"), power::halted);
}

TEST_P(container_host,
       a_foreign_guest_of_its_name_on_the_other_hypervisor_keeps_a_domain_from_starting) {
  ASSERT_TRUE(sim.hypervisor().create(uuid("app0"), "<domain><name>app0</name></domain>"));
  auto refused = sim.ask("app0", ask::start{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("'virsh destroy app0' there"));
  EXPECT_THAT(sim.containers().guests(), SizeIs(testing::Le(1U)));
  ASSERT_TRUE(sim.hypervisor().destroy(uuid("app0")));
  sim.run();
}

TEST_P(container_host, the_interface_of_a_client_outlives_its_netvm) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("sys-net0", ask::kill{}));
  EXPECT_EQ(sim.state_of("app0"), power::running);
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  sim.run();
  EXPECT_FALSE(facts("app0").degraded);
  auto has = sim.containers().devices(uuid("app0"));
  ASSERT_TRUE(has);
  EXPECT_THAT(has->links, SizeIs(1));
}

TEST_P(container_host, a_change_of_mode_has_no_effect_on_a_running_domain) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto refused = sim.ask("app0", ask::set_property{"virt_mode", "pvh"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::vm_not_halted);
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_TRUE(sim.ask("app0", ask::set_property{"virt_mode", "pvh"}));
  auto mixed = sim.ask("app0", ask::start{});
  ASSERT_FALSE(mixed) << "its netvm is a container";
  EXPECT_THAT(mixed.error().message(), HasSubstr("netvm"));
}

} // namespace qubes::tests
