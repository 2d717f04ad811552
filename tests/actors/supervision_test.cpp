// Actors that die of a fault: which parts begin again, when, and what users can do meanwhile.
#include "actors/common/restarts.hpp"
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qubes::tests {

using model::errc;
using model::power;
using namespace std::chrono_literals;

namespace {

constexpr std::int64_t us(std::chrono::microseconds x) {
  return x.count();
}

TEST(restarts, rare_failures_delay_no_restart) {
  auto known = actors::restarts{};
  for (auto i = 0; i < 50; ++i)
    EXPECT_EQ(known.note(us(i * 3s)), 0us) << i;
  EXPECT_EQ(known.count(), 50U);
}

TEST(restarts, five_failures_in_ten_seconds_restart_at_once_and_more_wait_longer_each_time) {
  auto known = actors::restarts{};
  for (auto i = 0; i < 5; ++i)
    EXPECT_EQ(known.note(us(i * 1s)), 0us) << i;
  EXPECT_EQ(known.note(us(5s)), 1s);
  EXPECT_FALSE(known.may_begin(us(5500ms)));
  EXPECT_TRUE(known.may_begin(us(6s)));
  auto now = std::chrono::microseconds{6s};
  for (auto expected : {2s, 4s, 8s, 16s, 32s, 60s, 60s}) {
    EXPECT_EQ(known.note(us(now)), expected);
    now += expected;
    EXPECT_TRUE(known.may_begin(us(now)));
  }
}

TEST(restarts, an_actor_that_ran_for_a_while_is_restarted_at_once) {
  auto known = actors::restarts{};
  for (auto i = 0; i < 8; ++i)
    known.note(us(0s));
  EXPECT_EQ(known.note(us(1h)), 0us);
}

struct supervision : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), with_volumes(sample_host(2, 2))};

  actors::directory::entry entry(const std::string& who) const {
    return *sim.directory().find(who);
  }
  template <class Actor>
  void die(const Actor& x) {
    sim.may_lose_track = true;
    caf::anon_send_exit(x, caf::exit_reason::unhandled_exception);
    sim.run();
  }
  void fail_often(const std::string& who) {
    while (entry(who).domain)
      die(entry(who).domain);
  }
};

INSTANTIATE_TEST_SUITE_P(seeds, supervision, ::testing::Range(std::uint64_t{0}, std::uint64_t{10}));

/// A guest that runs stays within reach, and the daemon keeps trying.
TEST_P(supervision, a_guest_can_be_paused_and_killed_while_its_actor_waits_for_its_restart) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto uuid = sim.system().find("app0")->uuid;
  fail_often("app0");
  auto set = sim.ask("app0", ask::set_property{"memory", "500"});
  ASSERT_FALSE(set);
  EXPECT_THAT(set.error().hint, testing::HasSubstr("try again"));
  EXPECT_TRUE(sim.ask("app0", ask::pause{}));
  EXPECT_EQ(sim.hypervisor().inspect(uuid)->state, power::paused);
  EXPECT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_EQ(sim.hypervisor().inspect(uuid)->state, power::halted);
  sim.pass(2s);
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_TRUE(sim.ask("app0", ask::set_property{"memory", "500"}));
  EXPECT_TRUE(sim.ask("app0", ask::start{}));
}

TEST_P(supervision, lists_actors_that_failed_with_count_and_cause) {
  ASSERT_TRUE(sim.world().status.restarts().empty());
  die(entry("app0").domain);
  die(entry("app0").domain);
  die(entry("sys-net0").netvm);
  auto told = sim.world().status.restarts();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told["domain app0"].count, 2U);
  EXPECT_THAT(told["domain app0"].reason, testing::Not(testing::IsEmpty()));
  EXPECT_EQ(told["netvm sys-net0"].count, 1U);
  ASSERT_TRUE(sim.ask("app0", ask::remove{}));
  EXPECT_EQ(sim.world().status.restarts().size(), 1U) << "rows die with their owner";
}

/// The order is still in the mailbox of the actor that dies.
TEST_P(supervision, a_client_of_an_actor_that_dies_gets_a_refusal) {
  sim.may_lose_track = true;
  caf::anon_send_exit(entry("app0").domain, caf::exit_reason::unhandled_exception);
  auto tickets = std::vector{sim.send("app0", ask::start{}), sim.send("app0", ask::add_tag{"one"}),
                             sim.send("app0", ask::kill{})};
  sim.run_until_idle();
  for (auto x : tickets)
    EXPECT_TRUE(sim.answer_to(x)) << "before any deadline";
  sim.run();
  sim.check_rest();
  EXPECT_THAT(sim.violations(), testing::IsEmpty());
}

TEST_P(supervision, a_restarted_netvm_actor_knows_its_clients) {
  ASSERT_TRUE(sim.ask("app0", ask::start{})); // waits behind sys-net1
  die(entry("sys-net1").netvm);
  ASSERT_TRUE(entry("sys-net1").netvm);
  auto down = sim.ask("sys-net1", ask::shutdown{});
  ASSERT_FALSE(down) << "it is used";
  EXPECT_EQ(down.error().code, errc::vm_in_use);
  auto app = sim.system().find("app0")->uuid;
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  ASSERT_TRUE(sim.ask("sys-net1", ask::start{}));
  EXPECT_THAT(sim.hypervisor().attached(app), testing::SizeIs(1)) << "it got its interface back";
  EXPECT_TRUE(sim.ask("app1", ask::start{}));
}

} // namespace

} // namespace qubes::tests
