// Consoles, and the stream of what running domains use.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

namespace qubes::tests {

using namespace std::string_literals;
using drivers::fake_call;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

namespace {

struct statistics : ::testing::Test {
  simulation sim{1, sample_host(2, 0)};

  connection_id watch(std::string_view whom) {
    auto who = sim.post(fmt::format("admin.vm.Stats dom0 name {}", whom) + "\0"s);
    sim.pass({});
    return who;
  }
  std::vector<std::string> heard(connection_id who) const { return sim.reply_to(who).frames; }
  std::size_t looks() { return sim.hypervisor().calls(fake_call::list); }
};

std::string refused(std::string_view kind) {
  return "2\0"s + std::string{kind} + "\0\0"s;
}

const auto greeting = "1\0\0connection-established\0\0"s;

} // namespace

TEST_F(statistics, are_told_of_all_that_run_every_few_seconds) {
  ASSERT_TRUE(sim.ask("app0", verb::start));
  auto who = watch("dom0");
  ASSERT_EQ(heard(who).size(), 2U);
  EXPECT_EQ(heard(who).front(), greeting);
  EXPECT_THAT(heard(who).back(), StartsWith("1\0app0\0vm-stats\0memory_kb\0"s));
  sim.pass(std::chrono::seconds{3});
  EXPECT_EQ(heard(who).size(), 3U);
}

TEST_F(statistics, cost_one_look_however_many_listen_and_none_when_nobody_does) {
  auto first = watch("dom0");
  auto before = looks();
  auto second = watch("dom0");
  sim.pass(std::chrono::seconds{3});
  EXPECT_EQ(looks(), before + 1);
  for (auto who : {first, second})
    caf::anon_send(sim.world().stats, atom::gone_v, who);
  sim.pass(std::chrono::seconds{3});
  before = looks();
  sim.pass(std::chrono::seconds{60});
  EXPECT_EQ(looks(), before);
  auto third = watch("dom0");
  EXPECT_EQ(looks(), before + 1);
  caf::anon_send(sim.world().stats, atom::gone_v, third);
}

TEST_F(statistics, of_one_domain_end_with_it) {
  auto halted = watch("app0");
  ASSERT_EQ(heard(halted).size(), 2U);
  EXPECT_EQ(heard(halted).front(), greeting);
  EXPECT_THAT(heard(halted).back(), StartsWith(refused("QubesVMNotRunningError")));
  ASSERT_TRUE(sim.ask("app0", verb::start));
  ASSERT_TRUE(sim.ask("app1", verb::start));
  auto running = watch("app0");
  ASSERT_EQ(heard(running).size(), 2U) << "nothing of app1";
  ASSERT_TRUE(sim.ask("app0", verb::kill));
  sim.pass(std::chrono::seconds{3});
  EXPECT_THAT(heard(running).back(), StartsWith(refused("QubesVMNotRunningError")));
  auto before = looks();
  sim.pass(std::chrono::seconds{60});
  EXPECT_EQ(looks(), before);
}

TEST_F(statistics, go_on_after_the_hypervisor_was_away) {
  ASSERT_TRUE(sim.ask("app0", verb::start));
  auto who = watch("dom0");
  sim.hypervisor().lose_connection();
  sim.pass(std::chrono::seconds{3});
  sim.pass(std::chrono::seconds{6});
  auto before = heard(who).size();
  sim.pass(std::chrono::seconds{3});
  EXPECT_EQ(heard(who).size(), before + 1);
}

TEST_F(statistics, consoles_are_of_domains_that_run) {
  auto console = [&](std::string_view of) {
    return sim.say(fmt::format("admin.vm.Console dom0 name {}", of) + "\0"s).frames.at(0);
  };
  EXPECT_THAT(console("app0"), StartsWith(refused("QubesVMNotRunningError")));
  EXPECT_EQ(console("dom0"), "0\0"s);
  ASSERT_TRUE(sim.ask("app0", verb::start));
  EXPECT_THAT(console("app0"), StartsWith("0\0/dev/pts/"s));
  ASSERT_TRUE(sim.ask("app0", verb::pause));
  EXPECT_THAT(console("app0"), StartsWith("0\0/dev/pts/"s));
}

} // namespace qubes::tests
