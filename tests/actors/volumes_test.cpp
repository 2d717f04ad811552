// A domain's volumes along its life: started with it, stopped with it, recovered after a crash.
#include "tests/actors/simulation.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace qubes::tests {

namespace {

using drivers::disk_call;
using model::errc;
using model::power;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;

struct volumes_of_a_domain : testing::TestWithParam<std::uint64_t> {
  model::outcome<std::string> start(const std::string& who) { return sim.ask(who, verb::start); }

  std::vector<std::string> events_of(const std::string& who) const {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.events())
      if (x.subject == who && !x.name.starts_with("property-"))
        result.push_back(x.name);
    return result;
  }

  model::system host = with_volumes(sample_host(2, 0));
  simulation sim{GetParam(), host};
};

} // namespace

TEST_P(volumes_of_a_domain, are_started_and_stopped_with_it) {
  ASSERT_TRUE(start("app0"));
  EXPECT_THAT(sim.disks().running(),
              ElementsAre("appvms/app0/private", "appvms/app0/root", "appvms/app0/volatile"));
  ASSERT_TRUE(sim.ask("app0", verb::kill));
  EXPECT_THAT(sim.disks().running(), IsEmpty());
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(volumes_of_a_domain, that_do_not_start_are_all_stopped_and_named) {
  sim.disks().set_script([](auto which, auto& it) -> std::optional<model::error> {
    if (which == disk_call::start && it.ends_with("/private"))
      return model::error{errc::storage, "the disk is full", "make room"};
    return std::nullopt;
  });
  auto answer = start("app0");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::storage);
  EXPECT_THAT(answer.error().message(), HasSubstr("'app0' could not be started: the disk is full"));
  EXPECT_THAT(sim.disks().running(), IsEmpty());
  EXPECT_THAT(events_of("app0"),
              ElementsAre("domain-pre-start", "domain-verify-files", "domain-start-failed"));
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(volumes_of_a_domain, that_are_not_there_are_missed_before_anything_else) {
  sim.disks().set_script([](auto which, auto&) -> std::optional<model::error> {
    if (which == disk_call::verify)
      return model::error{errc::storage, "the image is missing", {}};
    return std::nullopt;
  });
  auto answer = start("app0");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::storage);
  EXPECT_THAT(events_of("app0"), ElementsAre("domain-pre-start", "domain-start-failed"));
}

TEST_P(volumes_of_a_domain, are_stopped_when_its_guest_does_not_start) {
  sim.hypervisor().set_script([](auto which, auto&) -> std::optional<model::error> {
    if (which == drivers::fake_call::create)
      return model::error{errc::hypervisor, "no", {}};
    return std::nullopt;
  });
  EXPECT_FALSE(start("app0"));
  EXPECT_THAT(sim.disks().running(), IsEmpty());
  EXPECT_EQ(sim.state_of("app0"), power::halted);
}

TEST_P(volumes_of_a_domain, that_do_not_stop_mark_it_and_nobody_waits_for_ever) {
  ASSERT_TRUE(start("app0"));
  sim.disks().set_script([](auto which, auto&) -> std::optional<model::error> {
    if (which == disk_call::stop)
      return model::error{errc::storage, "stuck", {}};
    return std::nullopt;
  });
  EXPECT_TRUE(sim.ask("app0", verb::kill));
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_THAT(sim.world().status.degraded(),
              testing::Contains(testing::Pair("app0", HasSubstr("could not be stopped: stuck"))));
}

TEST_P(volumes_of_a_domain, a_start_right_after_a_kill_finds_them_in_order) {
  ASSERT_TRUE(start("app0"));
  auto kill = sim.send("app0", verb::kill);
  auto again = sim.send("app0", verb::start);
  sim.run();
  EXPECT_TRUE(sim.answer_to(kill)->has_value());
  EXPECT_TRUE(sim.answer_to(again)->has_value());
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(volumes_of_a_domain, what_an_earlier_daemon_left_running_is_stopped) {
  auto later = simulation{GetParam(), host, {}, {"appvms/app0/private", "appvms/app1/volatile"}};
  EXPECT_THAT(later.disks().running(), IsEmpty());
  ASSERT_TRUE(later.ask("app0", verb::start));
  later.check_rest();
  EXPECT_THAT(later.violations(), IsEmpty());
}

TEST_P(volumes_of_a_domain, a_snapshot_of_what_is_worked_on_in_place_does_not_start) {
  ASSERT_TRUE(sim.ask("debian", verb::set_volume_revisions, "root", "-1"));
  ASSERT_TRUE(start("debian"));
  auto answer = start("app0");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::vm_error);
  EXPECT_THAT(answer.error().message(), HasSubstr("shut 'debian' down first"));
  ASSERT_TRUE(sim.ask("debian", verb::kill));
  EXPECT_TRUE(start("app0"));
}

INSTANTIATE_TEST_SUITE_P(seeds, volumes_of_a_domain, testing::Range<std::uint64_t>(0, 5));

} // namespace qubes::tests
