// What guests say of themselves.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

namespace qubes::tests {

using model::errc;
using testing::Contains;

namespace {

struct guest_requests : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), sample_host(2, 1)};

  errc asks(const std::string& who, std::string_view directory = "/features-request/") {
    auto done = sim.ask(who, ask::request_features{std::string{directory}});
    return done ? errc::none : done.error().code;
  }
  bool notifies(const std::string& who, bool available) {
    return sim.ask(who, ask::notify_updates{"2026-11-23 03:21:14", available}).has_value();
  }
  std::string feature(std::string_view of, std::string_view name) {
    auto* text = sim.system().find(of)->features.find(name);
    return text ? *text : "absent";
  }
  std::vector<std::string> told() {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.events())
      result.push_back(x.subject + "!" + x.name);
    return result;
  }

  void TearDown() override {
    sim.check_rest();
    EXPECT_THAT(sim.violations(), testing::IsEmpty());
  }
};

} // namespace

TEST_P(guest_requests, need_a_guest_that_runs) {
  for (auto directory : {"/features-request/", "/qubes-tools/"}) {
    EXPECT_EQ(asks("app0", directory), errc::vm_not_running);
    EXPECT_EQ(asks("dom0", directory), errc::none);
  }
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  EXPECT_EQ(asks("app0"), errc::none);
  EXPECT_THAT(told(), Contains("dom0!features-request"));
  EXPECT_THAT(told(), Contains("app0!features-request"));
}

TEST_P(guest_requests, of_updates_reach_the_template) {
  ASSERT_TRUE(notifies("app0", true));
  EXPECT_EQ(feature("debian", "updates-available"), "1");
  EXPECT_EQ(feature("debian", "last-updates-check"), "2026-11-23 03:21:14");
  EXPECT_EQ(feature("app0", "updates-available"), "absent");
  ASSERT_TRUE(notifies("debian", false));
  EXPECT_EQ(feature("debian", "updates-available"), "");
  EXPECT_EQ(feature("debian", "last-update"), "2026-11-23 03:21:14");
}

TEST_P(guest_requests, of_updates_from_a_running_guest_need_its_volumes_to_be_fresh) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  ASSERT_TRUE(notifies("app0", true));
  EXPECT_EQ(feature("debian", "updates-available"), "1");
}

INSTANTIATE_TEST_SUITE_P(seeds, guest_requests,
                         ::testing::Range(std::uint64_t{1}, std::uint64_t{6}));

} // namespace qubes::tests
