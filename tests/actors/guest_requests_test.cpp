// What guests say of themselves, over the misc socket.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

namespace qubes::tests {

using namespace std::string_literals;
using testing::Contains;
using testing::HasSubstr;
using testing::StartsWith;

namespace {

struct guest_requests : ::testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), sample_host(2, 1)};

  std::string call(std::string_view method, std::string_view source, std::string_view payload = "",
                   api::socket where = api::socket::misc) {
    auto reply = sim.say(
        fmt::format("{} {} name dom0", method, source) + "\0"s + std::string{payload}, where);
    return reply.frames.empty() ? ""s : reply.frames.front();
  }
  const std::string* feature(std::string_view of, std::string_view name) {
    return sim.world().system.read()->find(of)->features.find(name);
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

std::string refused(std::string_view kind) {
  return "2\0"s + std::string{kind} + "\0\0"s;
}

} // namespace

TEST_P(guest_requests, of_features_are_read_from_the_guests_database) {
  ASSERT_TRUE(sim.ask("debian", verb::start));
  sim.tools().guest_writes("debian", "/features-request/os", "Linux");
  sim.tools().guest_writes("debian", "/features-request/qrexec", "1");
  sim.tools().guest_writes("debian", "/features-request/supported-rpc.x", "1");
  EXPECT_EQ(call("qubes.FeaturesRequest", "debian"), "0\0"s);
  ASSERT_TRUE(feature("debian", "os"));
  EXPECT_EQ(*feature("debian", "os"), "Linux");
  EXPECT_TRUE(feature("debian", "supported-rpc.x"));
  EXPECT_THAT(told(), Contains("debian!features-request"));
  EXPECT_THAT(told(), Contains("debian!template-postinstall"));
}

TEST_P(guest_requests, with_one_bad_value_change_nothing) {
  ASSERT_TRUE(sim.ask("debian", verb::start));
  sim.tools().guest_writes("debian", "/features-request/os", "Linux");
  sim.tools().guest_writes("debian", "/features-request/qrexec", "1\n");
  EXPECT_THAT(call("qubes.FeaturesRequest", "debian"), StartsWith(refused("ProtocolError")));
  EXPECT_FALSE(feature("debian", "os"));
}

TEST_P(guest_requests, of_windows_tools_have_a_directory_of_their_own) {
  ASSERT_TRUE(sim.ask("debian", verb::start));
  sim.tools().guest_writes("debian", "/qubes-tools/os", "Windows");
  sim.tools().guest_writes("debian", "/features-request/os", "Linux");
  EXPECT_EQ(call("qubes.NotifyTools", "debian"), "0\0"s);
  ASSERT_TRUE(feature("debian", "os"));
  EXPECT_EQ(*feature("debian", "os"), "Windows");
}

TEST_P(guest_requests, need_a_guest_that_runs) {
  for (auto method : {"qubes.FeaturesRequest", "qubes.NotifyTools"})
    EXPECT_THAT(call(method, "app0"), StartsWith(refused("QubesVMNotRunningError")));
  EXPECT_EQ(call("qubes.FeaturesRequest", "dom0"), "0\0"s);
  EXPECT_THAT(told(), Contains("dom0!features-request"));
}

TEST_P(guest_requests, of_updates_reach_the_template) {
  EXPECT_EQ(call("qubes.NotifyUpdates", "app0", "5\n"), "0\0"s);
  ASSERT_TRUE(feature("debian", "updates-available"));
  EXPECT_EQ(*feature("debian", "updates-available"), "1");
  EXPECT_THAT(*feature("debian", "last-updates-check"),
              testing::MatchesRegex("[0-9]+-[0-9]+-[0-9]+ [0-9]+:[0-9]+:[0-9]+"));
  EXPECT_EQ(call("qubes.NotifyUpdates", "debian", "0"), "0\0"s);
  EXPECT_EQ(*feature("debian", "updates-available"), "");
  EXPECT_TRUE(feature("debian", "last-update"));
  EXPECT_THAT(call("qubes.NotifyUpdates", "app0", "many"), StartsWith(refused("ProtocolError")));
}

TEST_P(guest_requests, are_no_methods_of_other_sockets) {
  for (auto where : {api::socket::admin, api::socket::internal})
    EXPECT_THAT(call("qubes.FeaturesRequest", "app0", "", where), HasSubstr("no such method"));
}

INSTANTIATE_TEST_SUITE_P(seeds, guest_requests,
                         ::testing::Range(std::uint64_t{1}, std::uint64_t{6}));

} // namespace qubes::tests
