// Lives beside each other: a netvm and its clients, and what is left of a domain that is gone.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace qubes::tests {

using model::power;
using testing::SizeIs;

namespace {

struct lives : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), with_volumes(sample_host(2, 2))};

  std::string uuid(const std::string& who) const {
    return sim.world().system.read()->find(who)->uuid;
  }

  auto heard(std::string_view subject, std::string_view name, std::size_t since = 0) const {
    auto& all = sim.events();
    return std::count_if(all.begin() + static_cast<std::ptrdiff_t>(since), all.end(),
                         [&](auto& x) { return x.subject == subject && x.name == name; });
  }
};

} // namespace

INSTANTIATE_TEST_SUITE_P(seeds, lives, ::testing::Range(std::uint64_t{0}, std::uint64_t{10}));

TEST_P(lives, of_clients_do_not_start_their_netvm_when_its_start_fails) {
  ASSERT_TRUE(sim.ask("app0", verb::start));
  ASSERT_TRUE(sim.ask("app1", verb::start));
  ASSERT_TRUE(sim.ask("sys-net1", verb::kill));
  sim.tools().lose_agent("sys-net1");
  auto since = sim.events().size();
  EXPECT_FALSE(sim.ask("sys-net1", verb::start));
  sim.run();
  EXPECT_EQ(heard("sys-net1", "domain-pre-start", since), 1);
  EXPECT_EQ(sim.state_of("sys-net1"), power::halted);
}

TEST_P(lives, that_begin_again_start_no_netvm_and_get_their_interface_when_it_comes) {
  ASSERT_TRUE(sim.ask("app0", verb::start));
  ASSERT_TRUE(sim.ask("sys-net1", verb::kill));
  sim.may_lose_track = true;
  caf::anon_send_exit(sim.world().directory.read()->find("app0")->domain,
                      caf::exit_reason::unhandled_exception);
  sim.run();
  EXPECT_EQ(sim.state_of("sys-net1"), power::halted) << "nobody asked for it";
  ASSERT_TRUE(sim.ask("sys-net1", verb::start));
  EXPECT_THAT(sim.hypervisor().attached(uuid("app0")), SizeIs(1));
}

TEST_P(lives, that_got_their_network_back_are_well_again) {
  ASSERT_TRUE(sim.ask("app0", verb::start));
  ASSERT_TRUE(sim.ask("sys-net1", verb::kill));
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string& whom) {
    return which == drivers::fake_call::attach && whom == uuid("app0")
               ? std::optional{model::error{model::errc::hypervisor, "not now", {}}}
               : std::nullopt;
  });
  ASSERT_TRUE(sim.ask("sys-net1", verb::start));
  auto qid = sim.world().system.read()->find("app0")->qid;
  EXPECT_TRUE(sim.world().board.read(qid).degraded);
  sim.hypervisor().set_script({});
  ASSERT_TRUE(sim.ask("sys-net1", verb::kill));
  ASSERT_TRUE(sim.ask("sys-net1", verb::start));
  EXPECT_THAT(sim.hypervisor().attached(uuid("app0")), SizeIs(1));
  EXPECT_FALSE(sim.world().board.read(qid).degraded);
}

/// At whatever moment of its start it was killed.
TEST_P(lives, of_clients_leave_a_killed_netvm_alone) {
  ASSERT_TRUE(sim.ask("app0", verb::start));
  ASSERT_TRUE(sim.ask("sys-net1", verb::kill));
  sim.send("sys-net1", verb::start);
  for (auto left = sim.chance()() % 500; left > 0 && sim.step(); --left) {
  }
  auto kill = sim.send("sys-net1", verb::kill);
  sim.run();
  auto* answer = sim.answer_to(kill);
  ASSERT_TRUE(answer);
  if (*answer) {
    EXPECT_EQ(sim.state_of("sys-net1"), power::halted);
  }
}

/// Whoever gets its number or its name is neither degraded nor running for that.
TEST_P(lives, leave_no_rows_on_the_boards) {
  auto qid = sim.world().system.read()->find("app0")->qid;
  ASSERT_TRUE(sim.ask("app0", verb::start));
  ASSERT_TRUE(sim.ask("sys-net1", verb::kill));
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::attach
               ? std::optional{model::error{model::errc::hypervisor, "not now", {}}}
               : std::nullopt;
  });
  ASSERT_TRUE(sim.ask("sys-net1", verb::start));
  ASSERT_TRUE(sim.world().status.degraded().contains("app0"));
  ASSERT_TRUE(sim.ask("app0", verb::kill));
  ASSERT_TRUE(sim.ask("app0", verb::remove));
  sim.run();
  EXPECT_FALSE(sim.world().status.degraded().contains("app0"));
  EXPECT_EQ(sim.world().board.read(qid), model::live{});
}

} // namespace qubes::tests
