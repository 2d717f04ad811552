// Devices that programs of domains pass on, and the microphone: classes that packages of dom0
// bring.
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

namespace qubes::tests {

using model::package;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

namespace {

constexpr auto stick = "0951:1666:ABC:u080650";
constexpr auto work_name = "app0";
constexpr auto backend = "sys-net1";

model::system host_with_sound() {
  auto x = sample_host(3, 2);
  auto copy = std::make_shared<model::domain>(*x.find("app0"));
  copy->properties["audiovm"] = std::string{"app2"};
  copy->tags.insert("audiovm-app2");
  x.put(copy);
  auto debian = std::make_shared<model::domain>(*x.find("debian"));
  debian->features.set("qrexec", "1");
  x.put(debian);
  return x;
}

struct passed_devices : testing::TestWithParam<std::uint64_t> {
  simulation sim{GetParam(), host_with_sound()};

  passed_devices() {
    sim.runtime().world()->machine.update([](model::host& x) {
      x.packages = {package::usb_proxy, package::gui_daemon, package::video_companion};
    });
    sim.tools().set_services([this](const auto& x) { return serve(x); });
  }

  /// What the programs in the guests do: the backend notes which domain has the device.
  model::outcome<std::string> serve(const drivers::fake_guest_tools::call& x) {
    if (refusal)
      return model::fail(model::errc::vm_error, *refusal);
    auto name = x.what.service.substr(0, x.what.service.find('+'));
    auto port = x.what.input.substr(x.what.input.find(' ') + 1);
    port = port.substr(0, port.find('\n'));
    if (name == "qubes.USBAttach")
      notes(port, x.domain);
    else if (name == "qubes.USBDetach")
      notes(port, {});
    return "";
  }
  void notes(const std::string& port, const std::string& holder) {
    auto entry = fmt::format("/qubes-usb-devices/{}/connected-to", port);
    if (holder.empty())
      sim.tools().guest_removes(backend, entry);
    else
      sim.tools().guest_writes(backend, entry, holder);
    sim.tools().guest_writes(backend, "/qubes-usb-devices", "");
  }
  void plug_in(const std::string& port) {
    auto folder = fmt::format("/qubes-usb-devices/{}/", port);
    sim.tools().guest_writes(backend, folder + "desc", "0951:1666 Kingston Data\\x20Stick ABC");
    sim.tools().guest_writes(backend, folder + "interfaces", ":080650:");
    sim.tools().guest_writes(backend, "/qubes-usb-devices", "");
    sim.run();
    sim.run_until_idle();
  }
  void pull_out(const std::string& port) {
    sim.tools().guest_removes(backend, fmt::format("/qubes-usb-devices/{}/", port));
    sim.tools().guest_writes(backend, "/qubes-usb-devices", "");
    sim.run_until_idle();
  }
  void start(const std::string& name) {
    auto done = sim.ask(name, ask::start{});
    ASSERT_TRUE(done) << done.error().message();
    sim.run_until_idle();
  }
  std::string say(std::string_view method, std::string_view argument, std::string_view to,
                  std::string_view payload = {}) {
    auto reply = sim.say(bytes_of(method, argument, "dom0", to, payload));
    EXPECT_FALSE(reply.frames.empty()) << method;
    return reply.frames.empty() ? "" : reply.frames.front();
  }
  std::string body(std::string_view method, std::string_view argument, std::string_view to,
                   std::string_view payload = {}) {
    auto whole = say(method, argument, to, payload);
    return whole.starts_with('0') ? whole.substr(2) : "refused: " + whole;
  }
  std::vector<std::string> calls() {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.tools().calls())
      result.push_back(fmt::format("{} {} {} <{}>", x.domain, x.what.user, x.what.service,
                                   x.what.input.substr(0, x.what.input.find('\n'))));
    return result;
  }
  std::vector<std::string> device_events(std::string_view of) {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.events())
      if (x.subject == of && x.name.starts_with("device-") && !x.name.starts_with("device-list"))
        result.push_back(x.name);
    return result;
  }
  std::string entry(const std::string& name, const std::string& path) {
    auto all = sim.tools().database(name);
    auto i = all.find(path);
    return i == all.end() ? "-" : i->second;
  }
  void TearDown() override {
    sim.check_rest();
    EXPECT_THAT(sim.violations(), IsEmpty());
    EXPECT_THAT(sim.tools().complaints(), IsEmpty());
  }

  std::optional<std::string> refusal;
};

constexpr auto attach = "admin.vm.device.usb.Attach";
constexpr auto detach = "admin.vm.device.usb.Detach";
constexpr auto attached = "admin.vm.device.usb.Attached";

} // namespace

/// The backend's QubesDB does not answer: what it last told is listed, and the caller does not wait
/// as long as for a job.
TEST_P(passed_devices, of_a_backend_that_does_not_answer_are_listed_from_its_last_answer) {
  start(backend);
  plug_in("2-1_4");
  auto known = body("admin.vm.device.usb.Available", "", backend);
  EXPECT_THAT(known, HasSubstr("2-1.4"));
  sim.lanes().hold(backend, drivers::lane::guest);
  auto asked = sim.post(bytes_of("admin.vm.device.usb.Available", "", "dom0", backend, ""));
  auto none = sim.post(bytes_of("admin.vm.device.block.Available", "", "dom0", backend, ""));
  sim.run_until_idle();
  EXPECT_THAT(sim.reply_to(asked).frames, IsEmpty()) << "its news may be on their way";
  sim.pass(std::chrono::seconds{2});
  EXPECT_THAT(sim.reply_to(asked).frames, ElementsAre("0" + std::string{'\0'} + known));
  EXPECT_THAT(sim.reply_to(none).frames, ElementsAre(std::string{"0\0", 2}));
  sim.lanes().hold("");
  sim.run();
}

TEST_P(passed_devices, are_listed_as_in_the_database_of_their_backend) {
  EXPECT_EQ(body("admin.deviceclass.List", "", "dom0"), "block\nmic\npci\nusb\nwebcam\n");
  EXPECT_EQ(body("admin.vm.device.usb.Available", "", backend), "") << "it does not run";
  start(backend);
  plug_in("2-1_4");
  EXPECT_EQ(body("admin.vm.device.usb.Available", "", backend),
            fmt::format("2-1.4:{0} device_id='{0}' port_id='2-1.4' devclass='usb' "
                        "backend_domain='sys-net1' name='Data Stick' serial='ABC' "
                        "manufacturer='Kingston' interfaces='u080650'\n",
                        stick));
  EXPECT_THAT(device_events(backend), ElementsAre("device-added:usb"));
  pull_out("2-1_4");
  EXPECT_EQ(body("admin.vm.device.usb.Available", "", backend), "");
  EXPECT_THAT(device_events(backend), ElementsAre("device-added:usb", "device-removed:usb"));
}

TEST_P(passed_devices, are_attached_and_detached_by_services_of_both) {
  start(backend);
  start(work_name);
  plug_in("2-1");
  auto device = fmt::format("{}+2-1", backend);
  ASSERT_EQ(body(attach, device, work_name), "");
  EXPECT_THAT(body(attached, "", work_name), StartsWith(fmt::format("sys-net1+2-1:{} ", stick)));
  EXPECT_THAT(body("admin.vm.device.usb.Available", "", backend), HasSubstr("attachment='app0'"));
  EXPECT_THAT(say(attach, device, work_name), HasSubstr("DeviceAlreadyAttached"));
  start("app1");
  EXPECT_THAT(say(attach, device, "app1"), HasSubstr("DeviceAlreadyAttached"));
  ASSERT_EQ(body(detach, device, work_name), "");
  sim.run_until_idle();
  EXPECT_EQ(body(attached, "", work_name), "");
  EXPECT_THAT(calls(), ElementsAre("app0 root qubes.USBAttach <sys-net1 2-1>",
                                   "sys-net1 root qubes.USBDetach <2-1>"));
  EXPECT_THAT(device_events(work_name), ElementsAre("device-pre-attach:usb", "device-attach:usb",
                                                    "device-pre-detach:usb", "device-detach:usb"));
  EXPECT_THAT(say(detach, device, work_name), HasSubstr("DeviceNotAssigned"));
}

TEST_P(passed_devices, take_no_options_and_report_a_failed_attachment) {
  start(backend);
  start(work_name);
  plug_in("2-1");
  auto device = fmt::format("{}+2-1", backend);
  EXPECT_THAT(say(attach, device, work_name, "_read-only='yes'"), HasSubstr("no options"));
  EXPECT_THAT(
      say("admin.vm.device.usb.Assign", device, work_name, "mode='auto-attach' _read-only='yes'"),
      HasSubstr("no options"));
  refusal = "the hub is full";
  EXPECT_THAT(say(attach, device, work_name), HasSubstr("the hub is full"));
  EXPECT_EQ(body(attached, "", work_name), "");
  refusal.reset();
  EXPECT_EQ(body(attach, device, work_name), "");
}

TEST_P(passed_devices, are_refused_at_once_where_a_guest_cannot_be_told) {
  start(backend);
  start(work_name);
  plug_in("2-1");
  auto device = fmt::format("{}+2-1", backend);
  ASSERT_TRUE(sim.ask(work_name, ask::pause{}));
  auto refused = say(attach, device, work_name);
  EXPECT_THAT(refused, HasSubstr("QubesVMNotRunningError"));
  EXPECT_THAT(refused, HasSubstr("'app0' is paused"));
  ASSERT_TRUE(sim.ask(work_name, ask::unpause{}));
  sim.tools().drop_agent(work_name);
  sim.run_until_idle();
  refused = say(attach, device, work_name);
  EXPECT_THAT(refused, HasSubstr("QubesVMError"));
  EXPECT_THAT(refused, HasSubstr("the qrexec agent of 'app0' is not connected"));
  EXPECT_THAT(calls(), IsEmpty());
  sim.tools().connect_agent(work_name, "user");
  sim.run_until_idle();
  EXPECT_EQ(body(attach, device, work_name), "");
  ASSERT_TRUE(sim.ask(backend, ask::pause{}));
  EXPECT_THAT(say(detach, device, work_name), HasSubstr("'sys-net1' is paused"));
  EXPECT_THAT(body(attached, "", work_name), HasSubstr("2-1"));
  EXPECT_THAT(calls(), ElementsAre("app0 root qubes.USBAttach <sys-net1 2-1>"));
}

TEST_P(passed_devices, that_are_assigned_are_attached_when_the_guest_can_be_told_again) {
  ASSERT_EQ(body("admin.vm.device.usb.Assign", fmt::format("{}+2-1", backend), work_name,
                 "mode='auto-attach'"),
            "");
  start(backend);
  start(work_name);
  ASSERT_TRUE(sim.ask(work_name, ask::pause{}));
  plug_in("2-1");
  EXPECT_THAT(calls(), IsEmpty());
  ASSERT_TRUE(sim.ask(work_name, ask::unpause{}));
  sim.run_until_idle();
  EXPECT_THAT(body(attached, "", work_name), HasSubstr("2-1"));
  EXPECT_EQ(body(detach, fmt::format("{}+2-1", backend), work_name), "");
  pull_out("2-1");
  sim.tools().drop_agent(work_name);
  sim.run_until_idle();
  plug_in("2-1");
  EXPECT_EQ(body(attached, "", work_name), "");
  sim.tools().connect_agent(work_name, "user");
  sim.run_until_idle();
  EXPECT_THAT(body(attached, "", work_name), HasSubstr("2-1"));
}

TEST_P(passed_devices, that_take_long_to_come_or_go_are_shown_with_what_they_wait_for) {
  start(backend);
  start(work_name);
  plug_in("2-1");
  auto device = fmt::format("{}+2-1", backend);
  auto shown_while = [&](std::string_view method, const std::string& held) {
    sim.lanes().hold(held);
    auto who = sim.post(bytes_of(method, device, "dom0", work_name, ""));
    sim.run_until_idle();
    EXPECT_THAT(body("qvmd.Status", "", "dom0"), HasSubstr("\"operations\":[]")) << "just begun";
    sim.pass(std::chrono::seconds{1});
    auto status = body("qvmd.Status", "", "dom0");
    sim.lanes().hold("");
    sim.run();
    EXPECT_FALSE(sim.reply_to(who).frames.empty());
    EXPECT_THAT(body("qvmd.Status", "", "dom0"), HasSubstr("\"operations\":[]")) << "it is over";
    return status.substr(status.find("\"operations\":"));
  };
  auto coming = shown_while(attach, "app0 services");
  for (auto part : {"\"domain\":\"app0\"", "service qubes.USBAttach in app0", "in line"})
    EXPECT_THAT(coming, HasSubstr(part));
  auto going = shown_while(detach, "sys-net1 services");
  for (auto part : {"\"domain\":\"app0\"", "service qubes.USBDetach in sys-net1", "in line"})
    EXPECT_THAT(going, HasSubstr(part));
}

TEST_P(passed_devices, that_are_assigned_come_when_either_starts) {
  ASSERT_EQ(body("admin.vm.device.usb.Assign", fmt::format("{}+2-1:{}", backend, stick), work_name,
                 "mode='auto-attach'"),
            "");
  start(backend);
  start(work_name);
  plug_in("2-1");
  EXPECT_THAT(body(attached, "", work_name), HasSubstr("mode='auto-attach'"));
  ASSERT_TRUE(sim.ask(work_name, ask::kill{}));
  notes("2-1", {});
  sim.run_until_idle();
  EXPECT_THAT(device_events(work_name), ElementsAre("device-pre-assign:usb", "device-assign:usb",
                                                    "device-attach:usb", "device-detach:usb"));
  start(work_name);
  EXPECT_THAT(body(attached, "", work_name), HasSubstr("2-1"));
  ASSERT_TRUE(sim.ask(backend, ask::kill{}));
  sim.run_until_idle();
  EXPECT_EQ(body(attached, "", work_name), "") << "its backend is gone";
}

TEST_P(passed_devices, that_are_required_must_be_there) {
  ASSERT_EQ(body("admin.vm.device.usb.Assign", fmt::format("{}+2-1", backend), work_name,
                 "mode='required'"),
            "");
  auto refused = sim.ask(work_name, ask::start{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("Usb device sys-net1:2-1:* is not available"));
  start(backend);
  plug_in("2-1");
  start(work_name);
  EXPECT_THAT(body(attached, "", work_name), HasSubstr("2-1"));
}

TEST_P(passed_devices, that_another_program_attaches_are_listed) {
  start(backend);
  start(work_name);
  plug_in("2-1");
  notes("2-1", work_name);
  sim.run_until_idle();
  EXPECT_THAT(body(attached, "", work_name), HasSubstr("mode='manual'"));
  notes("2-1", "app1");
  sim.run_until_idle();
  EXPECT_EQ(body(attached, "", work_name), "");
  EXPECT_THAT(device_events(work_name), ElementsAre("device-attach:usb", "device-detach:usb"));
  notes("2-1", "no such domain");
  sim.run_until_idle();
  EXPECT_THAT(body("admin.vm.device.usb.Available", "", backend),
              testing::Not(HasSubstr("attachment")));
}

TEST_P(passed_devices, that_their_backend_lets_go_of_are_free) {
  start(backend);
  start(work_name);
  start("app1");
  plug_in("2-1");
  auto device = fmt::format("{}+2-1", backend);
  ASSERT_EQ(body(attach, device, work_name), "");
  sim.run_until_idle();
  notes("2-1", {});
  sim.run_until_idle();
  EXPECT_EQ(body(attached, "", work_name), "");
  EXPECT_THAT(body("admin.vm.device.usb.Available", "", backend),
              testing::Not(HasSubstr("attachment")));
  EXPECT_THAT(device_events(work_name),
              ElementsAre("device-pre-attach:usb", "device-attach:usb", "device-detach:usb"));
  EXPECT_THAT(say(detach, device, work_name), HasSubstr("DeviceNotAssigned"));
  ASSERT_EQ(body(attach, device, "app1"), "");
  sim.run_until_idle();
  EXPECT_THAT(body(attached, "", "app1"), HasSubstr("2-1"));
  ASSERT_EQ(body(detach, device, "app1"), "");
  sim.run_until_idle();
  EXPECT_THAT(device_events("app1"), ElementsAre("device-pre-attach:usb", "device-attach:usb",
                                                 "device-pre-detach:usb", "device-detach:usb"));
}

TEST_P(passed_devices, of_a_class_without_its_package_can_only_be_given_back) {
  ASSERT_EQ(body("admin.vm.device.usb.Assign", fmt::format("{}+2-1", backend), work_name,
                 "mode='required'"),
            "");
  sim.runtime().world()->machine.update([](model::host& x) { x.packages.clear(); });
  EXPECT_EQ(body("admin.deviceclass.List", "", "dom0"), "block\npci\n");
  EXPECT_THAT(say(attach, fmt::format("{}+2-1", backend), work_name), HasSubstr("ProtocolError"));
  EXPECT_THAT(say("admin.vm.device.usb.Assigned", "", "app1"), HasSubstr("ProtocolError"));
  start(backend);
  EXPECT_FALSE(sim.ask(work_name, ask::start{})) << "it cannot be had";
  EXPECT_THAT(body("admin.vm.device.usb.Assigned", "", work_name), HasSubstr("2-1"));
  EXPECT_EQ(body("admin.vm.device.usb.Unassign", fmt::format("{}+2-1", backend), work_name), "");
  start(work_name);
}

TEST_P(passed_devices, cameras_take_a_format_and_are_parts_of_their_usb_device) {
  ASSERT_TRUE(sim.ask("debian", ask::set_feature{"supported-rpc.qvc.WebcamAttach", "1"}));
  start(backend);
  start(work_name);
  plug_in("2-1");
  sim.tools().guest_writes(backend, "/webcam-devices/video0/parent", "usb:2-1");
  sim.tools().guest_writes(backend, "/webcam-devices/video0/formats/0", "640x480x30");
  sim.tools().guest_writes(backend, "/webcam-devices/video0/formats/1", "0x480x30");
  sim.tools().guest_writes(backend, "/webcam-devices", "");
  sim.run_until_idle();
  EXPECT_EQ(body("admin.vm.device.webcam.Available", "", backend),
            fmt::format("video0:{0} device_id='{0}' port_id='video0' devclass='webcam' "
                        "backend_domain='sys-net1' name='Camera (Data Stick)' serial='ABC' "
                        "manufacturer='Kingston' interfaces='u0e0200' parent_port_id='2-1' "
                        "parent_devclass='usb' _formats='640x480x30'\n",
                        stick));
  auto device = fmt::format("{}+video0", backend);
  EXPECT_THAT(say("admin.vm.device.webcam.Attach", device, work_name, "_format='big'"),
              HasSubstr("WIDTHxHEIGHTxRATE"));
  EXPECT_EQ(body("admin.vm.device.webcam.Attach", device, work_name, "_format='640x480x30'"), "");
  EXPECT_EQ(body("admin.vm.device.webcam.Detach", device, work_name), "");
  EXPECT_THAT(calls(), ElementsAre("app0 root qvc.WebcamAttach <sys-net1 video0+640+480+30>",
                                   "sys-net1 root qvc.WebcamDetach+video0 <>"));
}

TEST_P(passed_devices, the_microphone_is_an_entry_of_the_audiovm) {
  constexpr auto mic = "dom0+mic";
  EXPECT_THAT(body("admin.vm.device.mic.Available", "", "dom0"),
              StartsWith("mic:dom0:mic::m000000 device_id='dom0:mic::m000000'"));
  start(work_name);
  EXPECT_THAT(say("admin.vm.device.mic.Attach", mic, work_name),
              HasSubstr("QubesVMNotRunningError"));
  EXPECT_THAT(say("admin.vm.device.mic.Attach", mic, work_name, "_loud='1'"),
              HasSubstr("no options"));
  start("app2");
  ASSERT_EQ(body("admin.vm.device.mic.Attach", mic, work_name), "");
  EXPECT_EQ(entry("app2", "/audio-input-config/app0"), "1");
  EXPECT_THAT(body("admin.vm.device.mic.Attached", "", work_name), HasSubstr("dom0+mic"));
  EXPECT_THAT(say("admin.vm.device.mic.Attach", mic, work_name),
              HasSubstr("DeviceAlreadyAttached"));
  start("app1");
  ASSERT_TRUE(sim.ask("app1", ask::set_property{"audiovm", "app2"}));
  EXPECT_EQ(body("admin.vm.device.mic.Attach", mic, "app1"), "") << "many may have it";
  ASSERT_TRUE(sim.ask(work_name, ask::set_property{"audiovm", "app1"}));
  sim.run_until_idle();
  EXPECT_EQ(entry("app1", "/audio-input-config/app0"), "1") << "it follows the audiovm";
  ASSERT_EQ(body("admin.vm.device.mic.Detach", mic, work_name), "");
  EXPECT_EQ(entry("app1", "/audio-input-config/app0"), "0");
  EXPECT_EQ(body("admin.vm.device.mic.Attached", "", work_name), "");
  EXPECT_THAT(say("admin.vm.device.mic.Detach", mic, work_name), HasSubstr("DeviceNotAssigned"));
}

TEST_P(passed_devices, a_microphone_of_an_earlier_life_is_forgotten) {
  start("app2");
  start(work_name);
  ASSERT_EQ(body("admin.vm.device.mic.Attach", "dom0+mic", work_name), "");
  ASSERT_TRUE(sim.ask(work_name, ask::kill{}));
  start(work_name);
  EXPECT_EQ(entry("app2", "/audio-input-config/app0"), "-");
  EXPECT_EQ(body("admin.vm.device.mic.Attached", "", work_name), "");
}

INSTANTIATE_TEST_SUITE_P(seeds, passed_devices,
                         ::testing::Range(std::uint64_t{1}, std::uint64_t{6}));

} // namespace qubes::tests
