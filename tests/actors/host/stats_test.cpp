// Consoles, and the stream of what running domains use.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>

namespace qubes::tests {

using drivers::fake_call;
using model::errc;

namespace {

struct statistics : ::testing::Test {
  simulation sim{1, sample_host(2, 0)};

  void watch(connection_id who, const std::string& whom) {
    caf::anon_send(sim.world().stats, atom::subscribe_v, who, whom);
    sim.pass({});
  }
  void leave(connection_id who) { caf::anon_send(sim.world().stats, atom::closed_v, who); }
  std::size_t told(std::string_view subject, std::string_view name) {
    return static_cast<std::size_t>(std::ranges::count_if(
        sim.events(), [&](auto& x) { return x.subject == subject && x.name == name; }));
  }
  std::size_t of(std::string_view domain) { return told(domain, "vm-stats"); }
  auto ended() { return std::ranges::count(sim.refusals(), "QubesVMNotRunningError"); }
  std::size_t looks() { return sim.hypervisor().calls(fake_call::list); }
};

} // namespace

TEST_F(statistics, are_told_of_all_that_run_every_few_seconds) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto greetings = told("", "connection-established");
  watch(1, "");
  EXPECT_EQ(told("", "connection-established"), greetings + 1);
  EXPECT_EQ(of("app0"), 1U);
  EXPECT_EQ(of("app1"), 0U);
  sim.pass(std::chrono::seconds{3});
  EXPECT_EQ(of("app0"), 2U);
  leave(1);
}

TEST_F(statistics, cost_one_query_for_all_listeners_and_none_without_listeners) {
  watch(1, "");
  auto before = looks();
  watch(2, "");
  sim.pass(std::chrono::seconds{3});
  EXPECT_EQ(looks(), before + 1);
  leave(1);
  leave(2);
  sim.pass(std::chrono::seconds{3});
  before = looks();
  sim.pass(std::chrono::seconds{60});
  EXPECT_EQ(looks(), before);
  watch(3, "");
  EXPECT_EQ(looks(), before + 1);
  leave(3);
}

TEST_F(statistics, have_disks_and_network_of_a_container_as_libvirt_counts_them) {
  auto host = with_volumes(sample_host(2, 0));
  auto record = *host.find("app0");
  record.properties["virt_mode"] = std::string{"lxc"};
  record.properties["netvm"] = model::value{};
  host.put(std::make_shared<model::domain>(std::move(record)));
  auto one = simulation{1, host, {.containers = true}};
  auto id = host.find("app0")->uuid;
  ASSERT_TRUE(one.ask("app0", ask::start{}));
  one.containers().count_devices(id, {{{0, 700}}, {{1000, 50}}});
  caf::anon_send(one.world().stats, atom::subscribe_v, connection_id{1}, std::string{});
  one.pass({});
  one.containers().count_devices(id, {{{6000, 700}}, {{4000, 50}}});
  one.pass(std::chrono::seconds{3});
  auto told = one.events();
  ASSERT_FALSE(told.empty());
  EXPECT_EQ(told.back().name, "vm-stats");
  EXPECT_THAT(told.back().args,
              testing::IsSupersetOf(
                  {testing::Pair("disk_read", "2000"), testing::Pair("disk_written", "0"),
                   testing::Pair("net_received", "1000"), testing::Pair("net_sent", "0")}));
  caf::anon_send(one.world().stats, atom::closed_v, connection_id{1});
}

TEST_F(statistics, of_one_domain_end_with_it) {
  watch(1, "app0");
  EXPECT_EQ(ended(), 1) << "it does not run";
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(sim.ask("app1", ask::start{}));
  watch(1, "app0");
  EXPECT_EQ(of("app0"), 1U);
  EXPECT_EQ(of("app1"), 0U);
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  sim.pass(std::chrono::seconds{3});
  EXPECT_EQ(ended(), 2);
  sim.pass(std::chrono::seconds{3});
  auto before = looks();
  sim.pass(std::chrono::seconds{60});
  EXPECT_EQ(looks(), before);
}

TEST_F(statistics, go_on_after_the_hypervisor_was_away) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  watch(1, "");
  sim.hypervisor().lose_connection();
  for (auto i = 0; i < 4; ++i)
    sim.pass(std::chrono::seconds{3});
  auto before = of("app0");
  sim.pass(std::chrono::seconds{3});
  EXPECT_EQ(of("app0"), before + 1);
  leave(1);
}

TEST_F(statistics, consoles_are_of_domains_that_run) {
  EXPECT_EQ(sim.ask("app0", ask::tell_console{}).error().code, errc::vm_not_running);
  EXPECT_EQ(sim.ask("dom0", ask::tell_console{}).value(), "");
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  EXPECT_THAT(sim.ask("app0", ask::tell_console{}).value(), testing::StartsWith("/dev/pts/"));
  ASSERT_TRUE(sim.ask("app0", ask::pause{}));
  EXPECT_THAT(sim.ask("app0", ask::tell_console{}).value(), testing::StartsWith("/dev/pts/"));
}

} // namespace qubes::tests
