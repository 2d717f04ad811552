#include "tests/fakes/fake_hypervisor.hpp"

#include "drivers/hypervisor/begin_limit.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <thread>

using namespace qubes;
using namespace qubes::drivers;
using namespace std::chrono_literals;
using model::errc;
using model::power;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

constexpr auto soon = 20s;
const auto work = std::string{"11111111-1111-4111-8111-111111111111"};

std::string xml(const std::string& name) {
  return "<domain type=\"xen\"><name>" + name
         + "</name><currentMemory unit=\"MiB\">400</currentMemory></domain>";
}

class fake_hypervisor_calls : public testing::Test {
protected:
  fake_hypervisor_calls() { use(host); }

  void use(fake_hypervisor& x) {
    x.listen({[this, &x](auto& uuid, auto& name, guest_event what) {
                EXPECT_EQ(uuid, work);
                EXPECT_EQ(name, "work");
                heard.push_back(what);
                (void)x.inspect(uuid); // would wait for ever if called under the lock
              },
              [this](auto& why) { lost.push_back(why); }});
    EXPECT_TRUE(x.connect());
  }

  power state() { return host.inspect(work)->state; }

  std::vector<guest_event> heard;
  std::vector<std::string> lost;
  fake_hypervisor host;
};

TEST_F(fake_hypervisor_calls, a_life_in_order) {
  auto xid = host.create(work, xml("work"));
  ASSERT_TRUE(xid);
  EXPECT_EQ(state(), power::paused);
  EXPECT_EQ(host.inspect(work)->memory_kib, 400U * 1024);
  EXPECT_TRUE(host.resume(work));
  EXPECT_TRUE(host.suspend(work));
  EXPECT_TRUE(host.resume(work));
  EXPECT_TRUE(host.sleep(work));
  EXPECT_EQ(state(), power::suspended);
  EXPECT_TRUE(host.wake(work));
  EXPECT_TRUE(host.shutdown(work));
  EXPECT_EQ(state(), power::halted);
  EXPECT_THAT(heard, ElementsAre(guest_event::started, guest_event::resumed, guest_event::suspended,
                                 guest_event::resumed, guest_event::slept, guest_event::started,
                                 guest_event::stopped));
  EXPECT_GT(*host.create(work, xml("work")), *xid) << "ids are not used twice";
}

TEST_F(fake_hypervisor_calls, lacking_capabilities_show) {
  auto poor = fake_hypervisor{{.paused_start = false, .attach = false, .sleep = false}};
  use(poor);
  ASSERT_TRUE(poor.create(work, xml("work")));
  EXPECT_EQ(poor.inspect(work)->state, power::running);
  EXPECT_TRUE(poor.attach(work, "<disk/>"));
  EXPECT_THAT(poor.attached(work), IsEmpty());
  EXPECT_EQ(poor.sleep(work).error().code, errc::not_implemented);
}

TEST_F(fake_hypervisor_calls, calls_that_do_not_fit_the_state_are_refused) {
  EXPECT_EQ(host.destroy(work).error().code, errc::vm_not_started);
  EXPECT_EQ(host.shutdown(work).error().code, errc::vm_not_started);
  ASSERT_TRUE(host.create(work, xml("work")));
  EXPECT_THAT(host.create(work, xml("work")).error().text, HasSubstr("'work'"));
  EXPECT_FALSE(host.suspend(work)); // the guest is paused
  EXPECT_FALSE(host.detach(work, "<disk/>"));
  EXPECT_TRUE(host.undefine("unknown"));
}

TEST_F(fake_hypervisor_calls, devices_are_kept_in_order_and_die_with_the_guest) {
  ASSERT_TRUE(host.create(work, xml("work")));
  auto disk = [](const std::string& target) {
    return "<disk type='block'><source dev='/dev/loop1'/><target dev='" + target + "'/></disk>";
  };
  for (auto x : {"xvdi", "xvdj", "xvdk"})
    EXPECT_TRUE(host.attach(work, disk(x)));
  EXPECT_FALSE(host.attach(work, disk("xvdk"))) << "it has this one already";
  EXPECT_TRUE(host.detach(work, disk("xvdj")));
  EXPECT_THAT(host.attached(work), ElementsAre(disk("xvdi"), disk("xvdk")));
  EXPECT_TRUE(host.destroy(work));
  ASSERT_TRUE(host.create(work, xml("work")));
  EXPECT_THAT(host.attached(work), IsEmpty());
}

TEST_F(fake_hypervisor_calls, an_interface_is_known_by_its_mac) {
  auto net = [](const std::string& ip) {
    return "<interface type='ethernet'><mac address='00:16:3e:5e:6c:00'/><ip address='" + ip
           + "'/><backenddomain name='sys-net'/></interface>";
  };
  ASSERT_TRUE(host.create(work, xml("work")));
  EXPECT_FALSE(host.attach(work, net("")));
  EXPECT_TRUE(host.attach(work, net("10.137.0.9")));
  EXPECT_FALSE(host.detach(work, net(""))) << "the record has no address any more";
  EXPECT_THAT(host.attached(work), ElementsAre(net("10.137.0.9")));
  EXPECT_TRUE(host.detach(work, model::xml::render_interface_key("00:16:3E:5E:6C:00")));
  EXPECT_THAT(host.attached(work), IsEmpty());
}

TEST_F(fake_hypervisor_calls, devices_that_libxl_cannot_have_are_refused) {
  ASSERT_TRUE(host.create(work, xml("work")));
  for (auto [device, why] : std::initializer_list<std::pair<std::string, std::string>>{
           {"<interface type='ethernet'><mac address='00:16:3e:5e:6c:00'/></interface>",
            "it has no back end"},
           {"<hostdev type='pci' mode='subsystem'><source/></hostdev>", "it has no address"},
           {"<sound model='ich6'/>", "it is of no kind that can be attached"}}) {
    auto done = host.attach(work, device);
    ASSERT_FALSE(done) << device;
    EXPECT_THAT(done.error().text, HasSubstr(why));
  }
  EXPECT_THAT(host.attached(work), IsEmpty());
}

TEST_F(fake_hypervisor_calls, the_script_decides_and_a_refused_call_has_no_effect) {
  auto seen = std::vector<fake_call>{};
  host.set_script([&](fake_call x, const std::string&) -> std::optional<model::error> {
    seen.push_back(x);
    if (x == fake_call::resume)
      return model::error{errc::hypervisor, "scripted", ""};
    return {};
  });
  ASSERT_TRUE(host.create(work, xml("work")));
  auto refused = host.resume(work);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "scripted");
  EXPECT_EQ(state(), power::paused);
  EXPECT_EQ(host.calls(fake_call::resume), 1U);
  EXPECT_THAT(heard, ElementsAre(guest_event::started));
  EXPECT_THAT(seen, testing::Contains(fake_call::inspect));
}

TEST_F(fake_hypervisor_calls, the_script_may_change_the_settings_of_the_fake) {
  host.set_script([this](fake_call x, const std::string& uuid) -> std::optional<model::error> {
    if (x == fake_call::resume)
      host.crash(uuid); // the guest dies just before the call
    return {};
  });
  ASSERT_TRUE(host.create(work, xml("work")));
  EXPECT_EQ(host.resume(work).error().code, errc::vm_not_started);
}

TEST_F(fake_hypervisor_calls, a_call_that_begins_too_late_is_not_made) {
  ASSERT_TRUE(host.create(work, xml("work")));
  auto left = 10ms;
  host.set_script([&](fake_call x, const std::string&) -> std::optional<model::error> {
    if (x == fake_call::resume)
      left = 0ms;
    return {};
  });
  {
    auto limit = begin_limit{[&] { return left; }};
    EXPECT_EQ(host.resume(work).error().code, errc::general);
    EXPECT_TRUE(limit.given_up());
  }
  EXPECT_EQ(state(), power::paused);
}

TEST_F(fake_hypervisor_calls, a_crash_is_told_as_crash_and_stop) {
  ASSERT_TRUE(host.create(work, xml("work")));
  host.crash(work);
  EXPECT_THAT(heard, ElementsAre(guest_event::started, guest_event::crashed, guest_event::stopped));
  EXPECT_EQ(state(), power::halted);
}

TEST_F(fake_hypervisor_calls, a_lost_connection_fails_calls_and_drops_events) {
  ASSERT_TRUE(host.create(work, xml("work")));
  host.lose_connection();
  host.lose_connection();
  EXPECT_EQ(lost.size(), 1U);
  auto refused = host.inspect(work);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::hypervisor);
  EXPECT_FALSE(host.list());
  host.crash(work);
  EXPECT_THAT(heard, ElementsAre(guest_event::started));
  ASSERT_TRUE(host.connect());
  EXPECT_EQ(state(), power::halted);
  EXPECT_TRUE(host.list()->empty());
}

TEST_F(fake_hypervisor_calls, events_may_be_lost_while_the_connection_lasts) {
  auto released = 0;
  host.lose_news([] { return true; });
  host.on_release([&] { ++released; });
  ASSERT_TRUE(host.create(work, xml("work")));
  host.crash(work);
  EXPECT_THAT(heard, IsEmpty());
  EXPECT_THAT(lost, IsEmpty());
  EXPECT_EQ(released, 1) << "XenStore says so all the same";
  EXPECT_EQ(state(), power::halted);
}

TEST_F(fake_hypervisor_calls, a_build_may_go_on_after_it_failed) {
  host.build_ghosts([] { return true; });
  host.set_script([](fake_call x, const std::string&) {
    return x == fake_call::create ? std::optional{model::error{errc::hypervisor, "scripted", ""}}
                                  : std::nullopt;
  });
  EXPECT_EQ(host.create(work, xml("work")).error().text, "scripted");
  EXPECT_EQ(state(), power::halted);
  EXPECT_THAT(host.list().value(), IsEmpty());
  EXPECT_EQ(host.destroy(work).error().code, errc::hypervisor) << "its build has the lock";
  EXPECT_THAT(heard, IsEmpty());
  EXPECT_TRUE(host.finish_builds());
  EXPECT_FALSE(host.finish_builds());
  EXPECT_EQ(state(), power::paused);
  EXPECT_THAT(heard, ElementsAre(guest_event::started));
}

TEST_F(fake_hypervisor_calls, nothing_works_before_it_is_connected) {
  auto fresh = fake_hypervisor{};
  EXPECT_FALSE(fresh.list());
  EXPECT_TRUE(fresh.connect());
  EXPECT_TRUE(fresh.list());
}

TEST_F(fake_hypervisor_calls, a_frozen_guest_fails_at_once_where_nothing_may_block) {
  host.blocking(false);
  ASSERT_TRUE(host.create(work, xml("work")));
  host.freeze(work);
  EXPECT_EQ(host.shutdown(work).error().code, errc::timed_out);
  EXPECT_EQ(host.attach(work, "<disk/>").error().code, errc::timed_out);
  host.thaw(work);
  EXPECT_TRUE(host.shutdown(work));
}

/// A call on a frozen guest in a thread of its own; the test sees that the call is under way.
class frozen_guest : public fake_hypervisor_calls {
protected:
  frozen_guest() {
    EXPECT_TRUE(host.create(work, xml("work")));
    host.freeze(work);
    answer = std::async(std::launch::async, [this] { return host.shutdown(work); });
    while (host.held() == 0)
      std::this_thread::yield();
  }

  errc outcome_now() {
    EXPECT_EQ(answer.wait_for(soon), std::future_status::ready);
    auto x = answer.get();
    return x ? errc::none : x.error().code;
  }

  std::future<outcome<void>> answer;
};

TEST_F(frozen_guest, thaw_lets_the_call_go_on) {
  EXPECT_EQ(answer.wait_for(0s), std::future_status::timeout);
  host.thaw(work);
  EXPECT_EQ(outcome_now(), errc::none);
}

TEST_F(frozen_guest, destroy_works_and_releases_the_call) {
  EXPECT_TRUE(host.destroy(work));
  EXPECT_EQ(outcome_now(), errc::vm_not_started);
}

TEST_F(frozen_guest, the_call_does_not_reach_the_next_life) {
  EXPECT_TRUE(host.destroy(work));
  EXPECT_TRUE(host.create(work, xml("work")));
  EXPECT_EQ(outcome_now(), errc::vm_not_started);
  EXPECT_NE(state(), power::halted);
}

TEST_F(frozen_guest, a_lost_connection_releases_the_call) {
  host.lose_connection();
  EXPECT_EQ(outcome_now(), errc::hypervisor);
}

TEST_F(frozen_guest, other_guests_and_pause_are_not_affected) {
  EXPECT_TRUE(host.resume(work));
  EXPECT_TRUE(host.suspend(work));
  host.thaw(work);
  EXPECT_EQ(outcome_now(), errc::none);
}

} // namespace
