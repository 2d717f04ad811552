// What becomes of calls whose connection is lost.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qubes::tests {

using drivers::fake_call;
using model::power;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

namespace {

struct calls : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), with_volumes(sample_host(2, 0))};

  std::string reason() const {
    return sim.world().status.hypervisor(model::hypervisor_id::host).reason;
  }

  void expect_over(std::uint64_t start, const std::string& what) {
    ASSERT_TRUE(sim.answer_to(start));
    EXPECT_THAT(why(*sim.answer_to(start)), HasSubstr(what));
    sim.hypervisor().set_script({});
    sim.lanes().hold("");
    sim.pass(std::chrono::minutes{1});
    sim.run();
    EXPECT_THAT(reason(), IsEmpty());
    EXPECT_EQ(sim.state_of("app0"), power::halted);
    sim.check_rest();
    EXPECT_THAT(sim.violations(), IsEmpty());
    EXPECT_TRUE(sim.ask("app0", ask::start{}));
  }
};

} // namespace

TEST_P(calls, that_were_waiting_when_the_connection_was_lost_are_named_in_the_reason) {
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  sim.lanes().hold("app0", drivers::lane::build);
  auto start = sim.send("app0", ask::start{});
  sim.run_until_idle();
  sim.hypervisor().lose_connection();
  sim.run_until_idle();
  EXPECT_THAT(reason(), HasSubstr("; broken off: build of 'app0'"));
  EXPECT_THAT(reason(), Not(HasSubstr("app1")));
  expect_over(start, "out of reach");
}

TEST_P(calls, that_were_under_way_when_the_connection_was_lost_are_named_in_the_reason) {
  sim.hypervisor().set_script([this](fake_call which, const std::string&) {
    if (which == fake_call::create)
      sim.hypervisor().lose_connection();
    return std::nullopt;
  });
  auto start = sim.send("app0", ask::start{});
  sim.run_until_idle();
  EXPECT_THAT(reason(), HasSubstr("; broken off: build of 'app0'"));
  expect_over(start, "while this was under way");
}

TEST_P(calls, are_not_named_when_none_waited_for_the_lost_connection) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().lose_connection();
  sim.run_until_idle();
  EXPECT_THAT(reason(), Not(IsEmpty()));
  EXPECT_THAT(reason(), Not(HasSubstr("broken off")));
}

INSTANTIATE_TEST_SUITE_P(seeds, calls, ::testing::Range(std::uint64_t{0}, std::uint64_t{10}));

} // namespace qubes::tests
