// The method table, and the checks every request passes through.
#include "actors/api/gate.hpp"
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <utility>

namespace qubes::tests {

using namespace std::string_literals;
using testing::HasSubstr;
using testing::StartsWith;

namespace {

/// The gate with everything behind it, spoken to in bytes.
struct gate_test : ::testing::Test {
  explicit gate_test(model::system all = sample_host(3, 1)) : sim{1, std::move(all)} {}

  simulation sim;
  std::vector<std::string> replies;
  std::size_t dropped = 0;
  actors::request_handler handler{
      sim.runtime().world(), sim.runtime().gate(),
      [this](connection_id, const std::string& frame, bool) { replies.push_back(frame); },
      [this](connection_id) { ++dropped; }};

  /// The reply of a read; "" when there was none at once.
  std::string say(const std::string& bytes, api::socket where = api::socket::admin) {
    replies.clear();
    handler.serve(7, where, {1, 0}, bytes);
    return replies.empty() ? ""s : replies.front();
  }
  std::string call(std::string_view method, std::string_view destination,
                   std::string_view payload = "", api::socket where = api::socket::admin) {
    return say(fmt::format("{} dom0 name {}", method, destination) + "\0"s + std::string{payload},
               where);
  }
};

/// With domains that have volumes.
struct populated_gate_test : gate_test {
  populated_gate_test() : gate_test{populated_host()} {}
};

} // namespace

TEST(methods, are_sorted_unique_and_explained) {
  auto names = std::set<std::string_view>{};
  auto last = std::string_view{};
  for (auto& x : actors::methods()) {
    EXPECT_LT(last, x.name);
    EXPECT_TRUE(names.insert(x.name).second);
    EXPECT_FALSE(x.help.empty()) << x.name;
    EXPECT_EQ(actors::find_method(x.where, x.name), &x);
    last = x.name;
  }
  EXPECT_EQ(actors::find_method(api::socket::internal, "admin.vm.List"), nullptr)
      << "a method on the wrong socket does not exist";
}

/// Whether the method is of a class of devices that a package brings; the stock daemon was asked
/// without such a package.
bool is_of_package(std::string_view method) {
  return std::ranges::any_of(model::device_kinds, [&](auto& x) {
    return x.of && method.starts_with(fmt::format("admin.vm.device.{}.", x.name));
  });
}

/// Methods of the stock daemon take the arguments, payloads, destinations and sockets that they
/// take there; the only other methods are this daemon's own.
TEST(methods, take_arguments_and_payloads_as_in_the_stock_daemon) {
  auto file = std::ifstream{QVMD_SOURCE_DIR "/tests/golden/method-flags.txt"};
  ASSERT_TRUE(file);
  auto expected = std::set<std::string>{};
  for (auto line = std::string{}; std::getline(file, line);)
    if (!line.starts_with('#'))
      expected.insert(line);
  auto flag = [](actors::presence x) {
    return x == actors::presence::none ? 'F' : x == actors::presence::required ? 'T' : '-';
  };
  auto destination = [](actors::target x) {
    return x == actors::target::dom0 ? 'T' : x == actors::target::not_dom0 ? 'F' : '-';
  };
  constexpr std::string_view sockets[] = {"admin", "internal", "misc"};
  auto ours = std::set<std::string>{};
  for (auto& x : actors::methods())
    if (!x.name.starts_with("qvmd.") && !is_of_package(x.name))
      ours.insert(fmt::format("{} {} {} {} {}", x.name, flag(x.argument), flag(x.payload),
                              destination(x.destination),
                              sockets[static_cast<std::size_t>(x.where)]));
  EXPECT_EQ(ours, expected);
}

TEST_F(gate_test, framing_errors_are_dropped_without_an_answer) {
  EXPECT_EQ(say("garbage"), "");
  EXPECT_EQ(dropped, 1U);
}

TEST_F(gate_test, an_argument_with_blanks_is_refused_by_its_check) {
  for (auto& frame : {"admin.vm.feature.Set+a b dom0 name app0\0x"s,
                      "admin.vm.tag.Set+ my tag  dom0 name app0\0"s,
                      "admin.vm.feature.Get+a  b dom0 keyword adminvm\0"s})
    EXPECT_THAT(say(frame),
                testing::AllOf(StartsWith(refused("ProtocolError")), HasSubstr("blank")));
  EXPECT_THAT(say("nosuch+a b dom0 name app0\0"s), HasSubstr("no such method"));
  EXPECT_THAT(say("admin.vm.feature.Get+a b dom0 name nobody\0"s),
              StartsWith(refused("QubesVMNotFoundError")));
  EXPECT_EQ(dropped, 0U);
  for (auto& frame : {"admin.vm.List  dom0 name app0\0"s, "admin.vm.List a+b c d\0"s,
                      "a b+c dom0 name app0\0"s, "a+b c dom0 keyword app0\0"s, "a+b c d\0"s})
    EXPECT_EQ(say(frame), "") << frame;
  EXPECT_EQ(dropped, 5U);
}

TEST_F(gate_test, checks_come_in_the_order_of_the_protocol) {
  EXPECT_THAT(say("nosuch+a nobody name nothing\0x"s), StartsWith(refused("QubesVMNotFoundError")));
  EXPECT_THAT(say("nosuch dom0 name -bad\0"s), StartsWith(refused("QubesValueError")));
  EXPECT_THAT(say("nosuch dom0 name uuid:12\0"s), StartsWith(refused("QubesVMInvalidUUIDError")));
  EXPECT_THAT(call("admin.vm.Lst", "dom0"), HasSubstr("did you mean 'admin.vm.List'"));
  EXPECT_THAT(call("admin.vm.List+x", "dom0", "y"), HasSubstr("takes no payload"));
  EXPECT_THAT(call("admin.vm.List+x", "dom0"), HasSubstr("takes no argument"));
  EXPECT_THAT(call("admin.label.List", "app0"), StartsWith(refused("ProtocolError")));
  EXPECT_THAT(call("admin.vm.notes.Get", "dom0"), StartsWith(refused("ProtocolError")));
}

TEST_F(gate_test, a_header_that_is_not_ascii_gets_an_answer_in_ascii) {
  for (auto& [frame, kind] : std::map<std::string, std::string>{
           {"admin.vm.tag.Get+\xc3\xa4 dom0 name app0\0"s, "ProtocolError"},
           {"admin.vm.L\xc3\xa4st dom0 name app0\0"s, "ProtocolError"},
           {"admin.vm.List dom0 name \xc3\xa4\0"s, "QubesValueError"},
           {"admin.vm.List d\xff name app0\0"s, "QubesValueError"},
           {"admin.vm.List dom0 name uuid:\xff\n\0"s, "QubesVMInvalidUUIDError"}}) {
    auto reply = say(frame);
    EXPECT_THAT(reply, StartsWith(refused(kind)));
    EXPECT_TRUE(std::ranges::all_of(reply, [](char c) { return c == 0 || (c >= ' ' && c <= '~'); }))
        << reply;
  }
  EXPECT_EQ(dropped, 0U);
}

/// RemoteVMs have no directory here: no path is named, and to write an empty text is to do nothing.
TEST(remote_domains, have_no_notes_and_no_firewall_here) {
  simulation sim{1, populated_host()};
  auto say = [&](std::string_view method, std::string_view payload) {
    auto reply = sim.say(bytes_of(method, "", "dom0", "far", payload));
    return reply.frames.empty() ? "dropped"s : reply.frames.back();
  };
  EXPECT_EQ(say("admin.vm.notes.Get", ""), "0\0"s);
  EXPECT_EQ(say("admin.vm.notes.Set", ""), "0\0"s);
  EXPECT_THAT(say("admin.vm.notes.Set", "x"), HasSubstr("has no notes here"));
  EXPECT_THAT(say("admin.vm.firewall.Get", ""), HasSubstr("has no firewall here"));
  for (auto& orders : {order{ask::get_firewall{}}, order{ask::reload_firewall{}},
                       order{ask::set_firewall{"action=accept\n"}}}) { // past the gate's check
    auto refused = sim.ask("far", orders);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().text, HasSubstr("has no firewall here"));
  }
}

TEST_F(gate_test, unknown_domain_suggests_the_nearest) {
  EXPECT_THAT(call("admin.vm.List", "ap0"), HasSubstr("did you mean 'app0'"));
}

/// For every row of the method table: what must be absent is refused, what must be there is asked
/// for.
TEST_F(gate_test, every_method_refuses_wrong_argument_payload_and_destination) {
  for (auto& x : actors::methods()) {
    using actors::presence;
    auto name = std::string{x.name};
    auto home = x.destination == actors::target::not_dom0 ? "app0" : "dom0";
    auto argument = x.argument == presence::required ? "+a" : "";
    auto payload = x.payload == presence::required ? "p" : "";
    auto refuses = [&](const std::string& method, std::string_view to, std::string_view body) {
      EXPECT_THAT(call(method, to, body, x.where), StartsWith(refused("ProtocolError"))) << method;
    };
    if (x.argument == presence::none) {
      refuses(name + "+a", home, payload);
    }
    if (x.argument == presence::required) {
      refuses(name, home, payload);
    }
    if (x.payload == presence::none) {
      refuses(name + argument, home, "p");
    }
    if (x.payload == presence::required) {
      refuses(name + argument, home, "");
    }
    if (x.destination == actors::target::dom0) {
      refuses(name + argument, "app0", payload);
    }
  }
}

TEST_F(gate_test, list_shows_dom0_first_with_class_state_and_uuid) {
  EXPECT_THAT(
      call("admin.vm.List", "dom0"),
      StartsWith(
          "0\0dom0 class=AdminVM state=Running uuid=00000000-0000-0000-0000-000000000000\napp0 "
          "class=AppVM state=Halted uuid="s));
}

TEST_F(gate_test, a_domain_other_than_dom0_sees_nothing_without_a_policy) {
  EXPECT_EQ(say("admin.vm.List app0 name dom0\0"s), "0\0"s);
  EXPECT_THAT(say("admin.vm.tag.Set+created-by-x app0 name app1\0"s),
              StartsWith(refused("PermissionDenied")));
}

TEST_F(gate_test, a_malformed_request_is_refused_before_it_is_handed_on) {
  EXPECT_THAT(say("qubes.NotifyUpdates app0 name dom0\0many"s, api::socket::misc),
              StartsWith(refused("ProtocolError")));
  EXPECT_THAT(call("qubes.NotifyUpdates", "dom0", "1"), HasSubstr("no such method"));
  for (auto method : {"Info", "Execute", "Cancel"})
    EXPECT_THAT(call(fmt::format("admin.backup.{}+../daily", method), "dom0"),
                StartsWith(refused("ProtocolError")));
}

TEST_F(gate_test, streams_have_no_plan) {
  EXPECT_THAT(call("qvmd.Plan+admin.vm.Stats", "app0"), HasSubstr("changes nothing"));
}

TEST_F(gate_test, plan_tells_the_change_and_makes_none) {
  auto before = sim.world().system.read();
  auto text = call("qvmd.Plan+admin.vm.property.Set+memory", "app0", "512");
  EXPECT_THAT(text, HasSubstr("memory"));
  EXPECT_THAT(text, HasSubstr("512"));
  sim.run();
  EXPECT_EQ(sim.world().system.read(), before);
  EXPECT_THAT(call("qvmd.Plan+admin.vm.property.Set+memory", "app0", "-5"),
              StartsWith(refused("QubesPropertyValueError")));
  EXPECT_THAT(call("qvmd.Plan+admin.vm.Start", "app0"), StartsWith(refused("ProtocolError")));
}

TEST_F(populated_gate_test,
       plan_tells_what_is_refused_of_orders_that_do_more_than_change_a_record) {
  auto before = sim.world().system.read();
  auto create = [&](const std::string& payload, const std::string& base = "") {
    auto in_pool = payload.find("pool:") != std::string::npos ? "InPool" : "";
    return call(fmt::format("qvmd.Plan+admin.vm.Create{}.AppVM+{}", in_pool, base), "dom0",
                payload);
  };
  EXPECT_THAT(create("name=new label=red"), HasSubstr("new: created, AppVM"));
  EXPECT_THAT(create("name=work label=red"), HasSubstr("there is already a domain 'work'"));
  EXPECT_THAT(create("name=new label=red pool:bogus=big"), StartsWith("2"));
  EXPECT_THAT(create("name=new label=red", "work"), StartsWith("2")) << "it is no template";
  EXPECT_THAT(call("qvmd.Plan+admin.vm.Shutdown+", "work"), HasSubstr("has no plan")) << "halted";
  EXPECT_THAT(call("qvmd.Plan+admin.vm.volume.Resize+private", "work", "1"),
              HasSubstr("cannot shrink to 1"));
  EXPECT_THAT(call("qvmd.Plan+admin.vm.volume.Resize+private", "work", "99999999999"),
              HasSubstr("99999999999 bytes"));
  EXPECT_THAT(call("qvmd.Plan+admin.pool.Remove+varlibqubes", "dom0"), HasSubstr("is used by"));
  sim.run();
  EXPECT_EQ(sim.world().system.read(), before);
}

TEST_F(gate_test, plan_of_a_shutdown_goes_by_how_the_domain_is) {
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  EXPECT_THAT(call("qvmd.Plan+admin.vm.Shutdown+", "app0"), StartsWith("0"));
  ASSERT_TRUE(sim.ask("app0", ask::pause{}));
  EXPECT_THAT(call("qvmd.Plan+admin.vm.Shutdown+", "app0"), HasSubstr("is paused"));
  EXPECT_THAT(call("qvmd.Plan+admin.vm.Shutdown+force", "app0"), StartsWith("0"));
  EXPECT_THAT(call("qvmd.Plan+admin.vm.Shutdown+", "sys-net0"), HasSubstr("has no plan"))
      << "its netvm actor decides";
}

TEST_F(gate_test, overview_status_methods_and_system_info_are_json) {
  auto body = [&](const std::string& reply) { return nlohmann::json::parse(reply.substr(2)); };
  EXPECT_EQ(body(call("qvmd.Overview", "dom0"))["domains"].size(), sim.system().domains.size());
  EXPECT_TRUE(body(call("qvmd.Status", "dom0"))["hypervisor"]["connected"]);
  EXPECT_TRUE(body(call("qvmd.Status", "dom0"))["hypervisor"]["accelerator"].is_null());
  EXPECT_EQ(body(call("qvmd.Methods", "dom0")).size(), actors::methods().size());
  auto info = body(call("internal.GetSystemInfo", "dom0", "", api::socket::internal));
  EXPECT_EQ(info["domains"]["app0"]["type"], "AppVM");
  EXPECT_EQ(info["domains"]["app0"]["power_state"], "Halted");
}

TEST_F(gate_test, status_says_whether_guests_are_emulated_where_that_may_be) {
  auto told = [&](bool kvm) {
    sim.runtime().world()->machine.update([&](model::host& x) {
      x.kind = model::hypervisor_kind::qemu;
      x.kvm = kvm;
    });
    auto reply = call("qvmd.Status", "dom0");
    return nlohmann::json::parse(reply.substr(2))["hypervisor"]["accelerator"];
  };
  EXPECT_EQ(told(true), "KVM");
  EXPECT_EQ(told(false), "TCG");
}

} // namespace qubes::tests
