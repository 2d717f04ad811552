// All domains go to sleep with the host and wake with it.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

namespace qubes::tests {

using model::errc;
using model::power;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

namespace {

constexpr auto note = "previously-paused.list";

struct sleeping_host : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), sample_host(3, 1)};

  model::outcome<std::string> fall_asleep() { return sim.ask("", ask::suspend_host{}); }
  model::outcome<std::string> wake_up() { return sim.ask("", ask::resume_host{}); }
  std::string noted() { return sim.run_disk().read(note, 1000).value().value_or("nothing"); }
  std::vector<std::string> told(std::string_view name) {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.events())
      if (x.name == name)
        result.push_back(x.subject);
    return result;
  }

  void SetUp() override {
    for (auto i = 0; i < 3; ++i)
      ASSERT_TRUE(sim.ask(fmt::format("app{}", i), ask::start{}));
  }
  void TearDown() override {
    sim.check_rest();
    EXPECT_THAT(sim.violations(), testing::IsEmpty());
  }
};

} // namespace

TEST_P(sleeping_host, suspends_all_running_domains) {
  ASSERT_TRUE(sim.ask("app1", ask::pause{}));
  EXPECT_TRUE(fall_asleep());
  EXPECT_EQ(noted(), "app1");
  EXPECT_EQ(sim.state_of("app0"), power::suspended);
  EXPECT_EQ(sim.state_of("sys-net0"), power::suspended);
  EXPECT_EQ(sim.state_of("app1"), power::paused);
  EXPECT_TRUE(wake_up());
  EXPECT_EQ(noted(), "nothing");
  EXPECT_EQ(sim.state_of("app0"), power::running);
  EXPECT_EQ(sim.state_of("sys-net0"), power::running);
  EXPECT_EQ(sim.state_of("app1"), power::paused) << "it was paused before";
  EXPECT_THAT(told("domain-resumed"), UnorderedElementsAre("app0", "app2", "sys-net0"));
}

TEST_P(sleeping_host, suspends_domains_that_start_or_shut_down) {
  ASSERT_TRUE(sim.ask("app1", ask::kill{}));
  ASSERT_TRUE(sim.ask("app1", ask::set_feature{"qrexec", "1"}));
  sim.lanes().hold("app1 agent");
  auto start = sim.send("app1", ask::start{});
  sim.run_until_idle();
  ASSERT_EQ(sim.state_of("app1"), power::starting);
  sim.hypervisor().occupy(sim.system().find("app2")->uuid);
  auto down = sim.send("app2", ask::shutdown{});
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(down) && *sim.answer_to(down));
  auto asleep = sim.send("", ask::suspend_host{});
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(asleep));
  EXPECT_TRUE(*sim.answer_to(asleep));
  for (auto who : {"app0", "app1", "app2", "sys-net0"})
    EXPECT_EQ(sim.state_of(who), power::suspended) << who;
  EXPECT_TRUE(sim.tools().calls().empty()) << "its agent is not there yet";
  auto awake = sim.send("", ask::resume_host{});
  sim.run_until_idle();
  EXPECT_TRUE(*sim.answer_to(awake));
  EXPECT_EQ(sim.state_of("app1"), power::starting);
  EXPECT_EQ(sim.state_of("app2"), power::running);
  sim.lanes().hold("");
  sim.run();
  auto& started = *sim.answer_to(start);
  EXPECT_TRUE(started) << started.error().message();
}

TEST_P(sleeping_host, wakes_all_at_once) {
  ASSERT_TRUE(fall_asleep());
  sim.lanes().hold("app0");
  auto awake = sim.send("", ask::resume_host{});
  sim.run_until_idle();
  for (auto who : {"app1", "app2", "sys-net0"})
    EXPECT_EQ(sim.state_of(who), power::running) << who;
  EXPECT_FALSE(sim.answer_to(awake));
  sim.lanes().hold("");
  sim.run();
  EXPECT_TRUE(*sim.answer_to(awake));
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

TEST_P(sleeping_host, tells_the_agents_first_by_name) {
  for (auto who : {"app0", "sys-net0"})
    ASSERT_TRUE(sim.ask(who, ask::set_feature{"qrexec", "1"}));
  for (auto who : {"app0", "sys-net0"})
    sim.tools().connect_agent(who, "user");
  sim.run_until_idle();
  EXPECT_TRUE(fall_asleep());
  auto first = told("domain-cmd-pre-run");
  ASSERT_EQ(first.size(), 4U) << "SuspendPreAll and SuspendPre, each in two domains";
  EXPECT_EQ(first[0], "app0");
  EXPECT_EQ(first[1], "sys-net0");
  EXPECT_TRUE(wake_up());
  auto all = told("domain-cmd-pre-run");
  ASSERT_EQ(all.size(), 8U);
  EXPECT_EQ(all[6], "app0");
  EXPECT_EQ(all[7], "sys-net0");
}

TEST_P(sleeping_host, names_domains_that_could_not_be_suspended_and_suspends_the_others) {
  auto uuid = sim.system().find("app1")->uuid;
  sim.hypervisor().set_script([uuid](drivers::fake_call which, const std::string& whom) {
    return which == drivers::fake_call::sleep && whom == uuid
               ? std::optional{model::error{errc::hypervisor, "no", {}}}
               : std::nullopt;
  });
  auto done = fall_asleep();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, errc::general);
  EXPECT_THAT(done.error().text, HasSubstr("'app1': no"));
  EXPECT_EQ(sim.state_of("app0"), power::suspended);
  EXPECT_EQ(sim.state_of("app1"), power::running);
}

TEST_P(sleeping_host, asked_twice_wakes_all_domains_that_it_suspended) {
  ASSERT_TRUE(sim.ask("app1", ask::pause{}));
  EXPECT_TRUE(fall_asleep());
  EXPECT_TRUE(fall_asleep());
  EXPECT_EQ(noted(), "app1") << "those put to sleep with the host are not among them";
  EXPECT_TRUE(wake_up());
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

TEST_P(sleeping_host, asked_by_several_at_once_answers_all) {
  auto tickets = std::vector<std::uint64_t>{};
  const order all[]{ask::suspend_host{}, ask::resume_host{}, ask::suspend_host{}};
  for (auto& what : all)
    tickets.push_back(sim.send("", what));
  sim.run();
  for (auto x : tickets)
    EXPECT_TRUE(sim.answer_to(x) && *sim.answer_to(x));
  EXPECT_TRUE(wake_up());
  EXPECT_EQ(sim.state_of("app0"), power::running);
}

TEST_P(sleeping_host, wakes_the_others_when_a_domain_was_removed_or_stopped) {
  EXPECT_TRUE(fall_asleep());
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_TRUE(wake_up());
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_EQ(sim.state_of("app2"), power::running);
}

INSTANTIATE_TEST_SUITE_P(seeds, sleeping_host,
                         ::testing::Range(std::uint64_t{1}, std::uint64_t{6}));

} // namespace qubes::tests
