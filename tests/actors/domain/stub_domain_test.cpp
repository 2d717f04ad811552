// What XenStore tells of guests: their stub domains, when they were started, how much they may get.
#include "tests/actors/simulation.hpp"

#include "model/property/property.hpp"

#include <gmock/gmock.h>

#include <fmt/format.h>

namespace qubes::tests {

using testing::HasSubstr;

namespace {

constexpr auto stub_uuid = "7f3a0c9e-0000-4abc-8def-0123456789ab";

/// sys-net0 <- app0, both in hvm mode; the hypervisor counts from 1.
struct stub_domains : testing::Test {
  static model::system host() {
    auto x = sample_host(1, 1);
    for (auto name : {"sys-net0", "app0"}) {
      auto it = std::make_shared<model::domain>(*x.find(name));
      it->properties.insert_or_assign("virt_mode", std::string{"hvm"});
      x.put(it);
    }
    return x;
  }
  simulation sim{1, host()};

  void write(const std::string& path, std::string_view text) {
    ASSERT_TRUE(sim.xenstore().write(path, text));
  }
  /// Writes what the toolstack writes for the guest with this number.
  void give_stub_domain(int guest, int stub) {
    write(fmt::format("/local/domain/{}/image/device-model-domid", guest), std::to_string(stub));
    write(fmt::format("/local/domain/{}/vm", stub), std::string{"/vm/"} + stub_uuid);
  }
  /// A started domain with a stub domain that plays its sound in dom0.
  void start_with_sound() {
    give_stub_domain(1, 7);
    for (auto [key, text] : {std::pair{"stubdom-qrexec", "1"}, std::pair{"audio-model", "ich6"},
                             std::pair{"qrexec", "1"}})
      ASSERT_TRUE(sim.ask("sys-net0", ask::set_feature{key, text}));
    ASSERT_TRUE(sim.ask("sys-net0", ask::set_property{"audiovm", "dom0"}));
    ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  }
  std::string property(const std::string& who, std::string_view name) {
    auto now = sim.world().look();
    return model::to_text(model::read({now.view(), now.find(who)}, name).value());
  }
  std::vector<std::string> agents() {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.tools().agents())
      result.push_back(fmt::format("{} {} {} {}", x.name, x.xid, x.uuid, x.user));
    return result;
  }
  ~stub_domains() override {
    sim.check_rest();
    for (auto& x : sim.violations())
      ADD_FAILURE() << x;
  }
};

} // namespace

TEST_F(stub_domains, are_known_while_their_guest_lives) {
  give_stub_domain(1, 7);
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  EXPECT_EQ(property("sys-net0", "xid"), "1");
  EXPECT_EQ(property("sys-net0", "stubdom_xid"), "7");
  EXPECT_EQ(property("sys-net0", "stubdom_uuid"), stub_uuid);
  ASSERT_TRUE(sim.ask("sys-net0", ask::kill{}));
  EXPECT_EQ(property("sys-net0", "stubdom_xid"), "-1");
  EXPECT_EQ(property("sys-net0", "stubdom_uuid"), "");
}

TEST_F(stub_domains, of_guests_in_pvh_mode_are_not_looked_for) {
  give_stub_domain(1, 7);
  ASSERT_TRUE(sim.ask("sys-net0", ask::set_property{"virt_mode", "pvh"}));
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  EXPECT_EQ(property("sys-net0", "stubdom_xid"), "-1");
  EXPECT_EQ(property("sys-net0", "stubdom_uuid"), "");
}

TEST_F(stub_domains, are_accepted_only_with_a_sound_entry) {
  for (auto text : {"", "x", "7x", "-7", "0", "99999999999", "7\n"}) {
    auto xid = std::to_string(sim.hypervisor().calls(drivers::fake_call::create) + 1);
    write("/local/domain/" + xid + "/image/device-model-domid", text);
    ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
    EXPECT_EQ(property("sys-net0", "xid"), xid);
    EXPECT_EQ(property("sys-net0", "stubdom_xid"), "-1") << text;
    ASSERT_TRUE(sim.ask("sys-net0", ask::kill{}));
  }
}

TEST_F(stub_domains, get_an_agent_of_their_own_where_the_feature_says_so) {
  give_stub_domain(1, 7);
  give_stub_domain(2, 8);
  ASSERT_TRUE(sim.ask("debian", ask::set_feature{"stubdom-qrexec", "1"}));
  ASSERT_TRUE(sim.ask("sys-net0", ask::set_feature{"stubdom-qrexec", ""}));
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto uuid = [&](const std::string& name) { return sim.world().look().find(name)->uuid; };
  EXPECT_THAT(agents(), testing::ElementsAre(fmt::format("sys-net0 1 {} user", uuid("sys-net0")),
                                             fmt::format("app0-dm 8 {} root", stub_uuid),
                                             fmt::format("app0 2 {} user", uuid("app0"))));
}

TEST_F(stub_domains, are_told_of_their_audiovm_and_of_its_absence) {
  ASSERT_NO_FATAL_FAILURE(start_with_sound());
  for (auto player : {"app0", "dom0", ""}) {
    auto done = sim.ask("sys-net0", ask::set_property{"audiovm", player});
    ASSERT_TRUE(done) << done.error().message();
    sim.run_until_idle();
  }
  auto told = std::vector<std::string>{};
  for (auto& x : sim.tools().calls())
    told.push_back(fmt::format("{} {} {}", x.domain, x.what.service, x.what.user));
  EXPECT_THAT(told, testing::ElementsAre("sys-net0-dm qubes.SetAudioVM+-1 root",
                                         "sys-net0-dm qubes.SetAudioVM+0 root",
                                         "sys-net0-dm qubes.SetAudioVM+-1 root"))
      << "app0 does not run";
  EXPECT_THAT(sim.tools().complaints(), testing::IsEmpty());
}

/// No call waits for a stub domain that cannot hear; the next change is told.
TEST_F(stub_domains, are_not_called_while_their_guest_is_paused) {
  ASSERT_NO_FATAL_FAILURE(start_with_sound());
  auto called = [&](const char* player) {
    EXPECT_TRUE(sim.ask("sys-net0", ask::set_property{"audiovm", player}));
    sim.run_until_idle();
    return sim.tools().calls().size();
  };
  ASSERT_TRUE(sim.ask("sys-net0", ask::pause{}));
  EXPECT_EQ(called(""), 0U);
  ASSERT_TRUE(sim.ask("sys-net0", ask::unpause{}));
  EXPECT_EQ(called("dom0"), 1U);
  EXPECT_EQ(called(""), 2U);
}

TEST_F(stub_domains, without_their_agent_fail_the_start) {
  give_stub_domain(1, 7);
  ASSERT_TRUE(sim.ask("sys-net0", ask::set_feature{"stubdom-qrexec", "1"}));
  sim.tools().lose_agent("sys-net0-dm");
  auto refused = sim.ask("sys-net0", ask::start{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("sys-net0-dm"));
  EXPECT_EQ(sim.state_of("sys-net0"), model::power::halted);
  EXPECT_EQ(property("sys-net0", "stubdom_xid"), "-1");
}

TEST_F(stub_domains, are_known_of_guests_that_ran_before_the_connection) {
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  EXPECT_EQ(property("sys-net0", "stubdom_xid"), "-1");
  give_stub_domain(2, 9);
  auto uuid = sim.world().look().find("app0")->uuid;
  write(fmt::format("/vm/{}/start_time", uuid), "1700000000.25");
  ASSERT_TRUE(sim.hypervisor().create(
      uuid, fmt::format("<domain><name>app0</name><uuid>{}</uuid></domain>", uuid)));
  sim.hypervisor().lose_connection();
  sim.run_until_idle();
  sim.pass(std::chrono::seconds{30});
  sim.run();
  EXPECT_EQ(property("app0", "stubdom_xid"), "9");
  EXPECT_EQ(property("app0", "start_time"), "1700000000.25");
}

TEST_F(stub_domains, the_time_of_a_start_is_that_of_the_toolstack) {
  auto uuid = sim.world().look().find("sys-net0")->uuid;
  write(fmt::format("/vm/{}/start_time", uuid), "1234.5");
  ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
  EXPECT_EQ(property("sys-net0", "start_time"), "1234.5");
  ASSERT_TRUE(sim.ask("sys-net0", ask::kill{}));
  for (auto text : {"nan", "inf", "-1", "1e300", ""}) {
    write(fmt::format("/vm/{}/start_time", uuid), text);
    ASSERT_TRUE(sim.ask("sys-net0", ask::start{}));
    auto seconds = std::stod(property("sys-net0", "start_time"));
    EXPECT_NEAR(seconds, static_cast<double>(sim.world().wall_us()) / 1e6, 60) << text;
    ASSERT_TRUE(sim.ask("sys-net0", ask::kill{}));
  }
}

TEST_F(stub_domains, a_maxmem_that_may_change_is_told_to_the_memory_manager) {
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"memory-hotplug", "1"}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"maxmem", "3000"}));
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto ceiling = [&] {
    return sim.xenstore().read("/local/domain/2/memory/hotplug-max")->value_or("none");
  };
  EXPECT_EQ(ceiling(), std::to_string(3000 * 1024));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"maxmem", "5000"}));
  sim.run_until_idle();
  EXPECT_EQ(ceiling(), std::to_string(5000 * 1024));
  EXPECT_EQ(sim.xenstore().read("/local/domain/1/memory/hotplug-max")->value_or("none"), "none")
      << "sys-net0 cannot";
}

} // namespace qubes::tests
