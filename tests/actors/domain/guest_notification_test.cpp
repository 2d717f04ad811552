// What running guests and their netvms are told, by the whole runtime.
#include "tests/actors/simulation.hpp"

#include "model/xml/firewall_xml.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>

#include <fmt/format.h>

#include <filesystem>
#include <fstream>

namespace qubes::tests {

using model::errc;
using model::power;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

/// sys-net0 <- sys-net1 <- app0, app1; qids 2 to 5.
struct guest_notifications : testing::Test {
  static model::system host() {
    auto x = sample_host(2, 2);
    auto debian = std::make_shared<model::domain>(*x.find("debian"));
    debian->features.set("qubes-firewall", "1");
    x.put(debian);
    return x;
  }
  static constexpr auto ip = "10.137.0.4";

  simulation sim{1, host()};

  void start(const std::string& name) {
    auto done = sim.ask(name, ask::start{});
    ASSERT_TRUE(done) << done.error().message();
  }
  std::vector<std::string> lines(const std::string& name) {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.tools().written(name))
      result.push_back(x.text ? x.path + '=' + *x.text : "rm " + x.path);
    return result;
  }
  std::string entry(const std::string& name, const std::string& path) {
    auto all = sim.tools().database(name);
    auto i = all.find(path);
    return i == all.end() ? "-" : i->second;
  }
  std::vector<std::string> events_of(std::string_view subject) {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.events())
      if (x.subject == subject)
        result.push_back(x.name);
    return result;
  }
  ~guest_notifications() override {
    for (auto& x : sim.violations())
      ADD_FAILURE() << x;
  }
};

} // namespace

TEST_F(guest_notifications, a_netvm_knows_its_client_before_and_after_the_start) {
  start("sys-net1");
  sim.tools().forget("sys-net1");
  start("app0");
  auto rules = std::vector<std::string>{
      "rm /qubes-firewall/10.137.0.4/", "/qubes-firewall/10.137.0.4/policy=drop",
      "/qubes-firewall/10.137.0.4/0000=action=accept", "/qubes-firewall/10.137.0.4="};
  auto expected =
      std::vector<std::string>{"/connected-ips=10.137.0.4 10.137.0.5",
                               "/connected-ips6=", "/mapped-ip/10.137.0.4/visible-ip=10.137.0.4",
                               "/mapped-ip/10.137.0.4/visible-gateway=10.137.0.3"};
  for (auto i = 0; i < 2; ++i)
    expected.insert(expected.end(), rules.begin(), rules.end());
  EXPECT_EQ(lines("sys-net1"), expected);
}

TEST_F(guest_notifications, a_client_that_moves_is_told_anew_and_so_are_both_netvms) {
  start("app0");
  auto seed = entry("app0", "/qubes-random-seed");
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  EXPECT_EQ(entry("sys-net1", "/connected-ips"), "10.137.0.5");
  EXPECT_EQ(entry("app0", "/qubes-random-seed"), seed) << "None is not told";
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net0"}));
  EXPECT_EQ(entry("sys-net0", "/connected-ips"), "10.137.0.4 10.137.0.3");
  EXPECT_EQ(entry("sys-net0", "/mapped-ip/10.137.0.4/visible-gateway"), "10.137.0.2");
  EXPECT_EQ(entry("sys-net0", "/qubes-firewall/10.137.0.4/policy"), "drop");
  EXPECT_EQ(entry("app0", "/qubes-gateway"), "10.137.0.2");
  EXPECT_NE(entry("app0", "/qubes-random-seed"), seed);
  EXPECT_THAT(events_of("sys-net0"), Contains("net-domain-connect"));
}

TEST_F(guest_notifications, a_netvm_that_comes_back_is_told_again_and_its_client_is_not) {
  start("app0");
  auto seed = entry("app0", "/qubes-random-seed");
  ASSERT_TRUE(sim.ask("sys-net1", ask::kill{}));
  start("sys-net1");
  sim.run();
  EXPECT_EQ(entry("sys-net1", "/mapped-ip/10.137.0.4/visible-ip"), ip);
  EXPECT_EQ(entry("sys-net1", "/qubes-firewall/10.137.0.4/0000"), "action=accept");
  EXPECT_EQ(entry("app0", "/qubes-random-seed"), seed);
}

TEST_F(guest_notifications, a_netvm_of_release_3_reads_the_rules_of_all_its_clients) {
  ASSERT_TRUE(sim.ask("sys-net1", ask::set_feature{"qubes-firewall", ""}));
  start("app0");
  start("app1");
  auto xid = [&](const std::string& name) {
    return sim.world().board.read(sim.system().find(name)->qid).xid;
  };
  auto path = [&](const std::string& name) {
    return fmt::format("/qubes-iptables-domainrules/{}", xid(name));
  };
  EXPECT_THAT(entry("sys-net1", path("app0")), HasSubstr("-A FORWARD -s 10.137.0.4 -j ACCEPT"));
  EXPECT_THAT(entry("sys-net1", path("app1")), HasSubstr("-s 10.137.0.5"));
  sim.disk().foreign_write("appvms/app0/firewall.xml",
                           model::xml::save_firewall(model::drop_all()));
  ASSERT_TRUE(sim.ask("app0", ask::reload_firewall{}));
  sim.run();
  EXPECT_THAT(entry("sys-net1", path("app0")),
              HasSubstr("*filter\n-A FORWARD -s 10.137.0.4 -j DROP"));
  EXPECT_EQ(lines("sys-net1").back(), "/qubes-iptables=reload");
}

TEST_F(guest_notifications, a_feature_reaches_a_running_domain_before_the_answer) {
  start("app0");
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"service.cups", "1"}));
  EXPECT_EQ(entry("app0", "/qubes-service/cups"), "1");
  ASSERT_TRUE(sim.ask("app0", ask::remove_feature{"service.cups"}));
  EXPECT_EQ(entry("app0", "/qubes-service/cups"), "-");
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"vm-config.a", "b"}));
  EXPECT_EQ(entry("app0", "/vm-config/a"), "b");
}

TEST_F(guest_notifications, dom0_runs_services_of_its_own) {
  ASSERT_TRUE(sim.ask("dom0", ask::set_feature{"service.clocksync", "1"}));
  EXPECT_THAT(sim.tools().services(), ElementsAre("clocksync"));
  EXPECT_EQ(entry("dom0", "/qubes-service/clocksync"), "1");
  ASSERT_TRUE(sim.ask("dom0", ask::remove_feature{"service.clocksync"}));
  EXPECT_THAT(sim.tools().services(), IsEmpty());
}

TEST(guest_notifications_at_boot, dom0_has_the_services_of_its_record) {
  auto x = sample_host(0, 0);
  auto dom0 = std::make_shared<model::domain>(*x.find("dom0"));
  dom0->features.set("service.a", "1");
  dom0->features.set("service.b", "");
  dom0->features.set("service.../up", "1");
  x.put(dom0);
  auto sim = simulation{1, x};
  EXPECT_THAT(sim.tools().services(), ElementsAre("a"));
}

TEST_F(guest_notifications, a_broken_qubesdb_keeps_its_domain_from_no_change) {
  start("app0");
  sim.tools().break_qubesdb("app0");
  EXPECT_TRUE(sim.ask("app0", ask::set_feature{"service.x", "1"}));
}

TEST_F(guest_notifications, an_invalid_persistent_path_does_not_keep_a_domain_from_starting) {
  auto x = host();
  auto app = std::make_shared<model::domain>(*x.find("app0"));
  app->features.set("custom-persist.a", "nonsense");
  x.put(app);
  auto sim = simulation{1, x};
  auto started = sim.ask("app0", ask::start{});
  ASSERT_TRUE(started) << why(started);
  EXPECT_FALSE(sim.tools().database("app0").contains("/persist/a"));
}

TEST_F(guest_notifications, a_paused_guest_reads_of_its_new_netvm_and_gets_it_when_it_goes_on) {
  constexpr auto mark = "deferred-netvm-original";
  auto feature = [&] { return sim.system().find("app0")->features.find(mark); };
  auto interface_at = [&] {
    auto all = sim.hypervisor().attached(sim.system().find("app0")->uuid);
    return all.empty() ? std::string{} : all.back();
  };
  start("sys-net0");
  start("app0");
  ASSERT_TRUE(sim.ask("app0", ask::pause{}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net0"}));
  ASSERT_TRUE(feature());
  EXPECT_EQ(*feature(), "sys-net1");
  EXPECT_EQ(entry("app0", "/qubes-gateway"), "10.137.0.2");
  EXPECT_THAT(interface_at(), testing::Not(HasSubstr("sys-net0")));
  ASSERT_TRUE(sim.ask("app0", ask::unpause{}));
  sim.run();
  sim.run_until_idle();
  EXPECT_THAT(interface_at(), HasSubstr("sys-net0"));
  EXPECT_FALSE(feature());
}

TEST_F(guest_notifications, a_change_of_netvm_that_was_missed_is_forgotten_with_the_life) {
  constexpr auto mark = "deferred-netvm-original";
  start("sys-net0");
  start("app0");
  ASSERT_TRUE(sim.ask("app0", ask::pause{}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", "sys-net0"}));
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  sim.run_until_idle();
  EXPECT_FALSE(sim.system().find("app0")->features.find(mark));
}

// -- devices that come and go --------------------------------------------------------------------

namespace {

struct disks : guest_notifications {
  void plug_in(const std::string& port) {
    for (auto& [key, text] :
         {std::pair{"desc", "DISK (label)"}, std::pair{"size", "1024"}, std::pair{"mode", "w"}})
      sim.tools().guest_writes("sys-net1", fmt::format("/qubes-block-devices/{}/{}", port, key),
                               text);
    sim.tools().guest_writes("sys-net1", "/qubes-block-devices", "");
    sim.run();
    sim.run_until_idle();
  }
  void pull_out(const std::string& port) {
    sim.tools().guest_removes("sys-net1", fmt::format("/qubes-block-devices/{}/", port));
    sim.tools().guest_writes("sys-net1", "/qubes-block-devices", "");
    sim.run_until_idle();
  }
  /// Whether the question about sda is withdrawn when this order comes while the user thinks. The
  /// user then answers that app0 may have the device.
  bool is_withdrawn_by(const std::string& domain, const order& what) {
    auto withdrawn = false;
    sim.agent().answer = [&](auto& stop) {
      auto done = sim.send(domain, what);
      sim.run_until_idle();
      EXPECT_TRUE(sim.answer_to(done) && *sim.answer_to(done));
      withdrawn = stop.stop_requested();
      return "allow:app0";
    };
    plug_in("sda");
    return withdrawn;
  }
  void assign(const std::string& name, const std::string& port, const std::string& mode) {
    auto done = sim.send(
        name, ask::assign_device{"block", "sys-net1+" + port, fmt::format("mode='{}'", mode)});
    sim.run();
    ASSERT_TRUE(sim.answer_to(done) && *sim.answer_to(done));
  }
  model::outcome<std::string> attach(const std::string& name, const std::string& port,
                                     const std::string& options = {}) {
    auto ticket = sim.send(name, ask::attach_device{"block", "sys-net1+" + port, options});
    sim.run();
    return *sim.answer_to(ticket);
  }
  void detach(const std::string& name, const std::string& port) {
    auto ticket = sim.send(name, ask::detach_device{"block", "sys-net1+" + port});
    sim.run();
    ASSERT_TRUE(sim.answer_to(ticket) && *sim.answer_to(ticket));
  }
  std::string attached(const std::string& name) {
    auto ticket = sim.send(name, ask::list_attached{"block"});
    sim.run();
    return sim.answer_to(ticket)->value_or("refused");
  }
};

} // namespace

TEST_F(disks, a_change_in_a_backend_is_told) {
  start("sys-net1");
  plug_in("sda");
  auto all = events_of("sys-net1");
  ASSERT_GE(all.size(), 3U);
  EXPECT_THAT((std::vector<std::string>{all.end() - 3, all.end()}),
              ElementsAre("device-list-change:block", "domain-qdb-change:/qubes-block-devices",
                          "device-added:block"));
  pull_out("sda");
  EXPECT_EQ(events_of("sys-net1").back(), "device-removed:block");
}

TEST_F(disks, an_assigned_disk_is_attached_automatically_and_detached_with_its_backend) {
  assign("app0", "sda", "auto-attach");
  start("app0");
  plug_in("sda");
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda"));
  EXPECT_THAT(attached("app0"), HasSubstr("frontend-dev='xvdi'"));
  pull_out("sda");
  EXPECT_EQ(attached("app0"), "");
  EXPECT_THAT(events_of("app0"), Contains("device-detach:block"));
  plug_in("sdb");
  EXPECT_EQ(attached("app0"), "") << "nobody assigned it";
}

TEST_F(disks, the_names_of_its_own_disks_are_given_to_no_other) {
  start("sys-net1");
  plug_in("sda");
  start("app0");
  for (auto own : {"xvda", "xvdb", "xvdc", "xvdd"}) {
    auto refused = attach("app0", "sda", fmt::format("_frontend-dev='{}'", own));
    ASSERT_FALSE(refused) << own;
    EXPECT_EQ(refused.error().code, errc::value);
    EXPECT_EQ(attached("app0"), "");
  }
  ASSERT_TRUE(attach("app0", "sda", "_devtype='cdrom'"));
  EXPECT_THAT(attached("app0"), HasSubstr("frontend-dev='xvdi'")) << "its modules are at xvdd";
  detach("app0", "sda");
  ASSERT_TRUE(attach("app0", "sda", "_frontend-dev='xvde'"));
}

TEST_F(disks, a_disk_assigned_to_two_domains_goes_to_the_one_that_the_user_names) {
  assign("app0", "sda", "auto-attach");
  assign("app1", "sda", "ask-to-attach");
  start("app0");
  start("app1");
  sim.agent().answer = [](auto&) { return "allow:app1"; };
  plug_in("sda");
  EXPECT_EQ(attached("app0"), "");
  EXPECT_THAT(attached("app1"), HasSubstr("sys-net1+sda"));
  ASSERT_EQ(sim.agent().questions.size(), 1U) << "who said yes once is not asked again";
  EXPECT_THAT(sim.agent().questions[0],
              testing::StartsWith(R"({"source":"sys-net1",)"
                                  R"("device_name":"Block_Storage: hosted by sys-net1 label",)"
                                  R"("argument":"sda","targets":["app0","app1"],)"
                                  R"("default_target":"","icons":{)"));
  EXPECT_THAT(sim.agent().questions[0], HasSubstr(R"("app0":"appvm-)"));
}

TEST_F(disks, a_disk_assigned_to_two_domains_stays_unless_the_user_names_one_of_them) {
  assign("app0", "sda", "auto-attach");
  assign("app1", "sda", "auto-attach");
  start("app0");
  start("app1");
  for (auto answer : {"deny", "allow:", "allow:app2", "allow:app0 ", ""}) {
    sim.agent().answer = [answer](auto&) { return answer; };
    plug_in("sda");
    EXPECT_EQ(attached("app0") + attached("app1"), "") << answer;
    pull_out("sda");
  }
  EXPECT_EQ(sim.agent().questions.size(), 5U);
  sim.agent().answer = [](auto&) { return model::fail(errc::general, "no agent"); };
  plug_in("sda");
  EXPECT_EQ(attached("app0") + attached("app1"), "");
}

TEST_F(disks, the_user_is_asked_for_a_disk_at_the_start_and_when_it_appears) {
  assign("app0", "sda", "ask-to-attach");
  start("sys-net1");
  plug_in("sda");
  EXPECT_TRUE(sim.agent().questions.empty());
  sim.agent().answer = [](auto&) { return "allow:app0"; };
  start("app0");
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda"));
  pull_out("sda");
  plug_in("sda");
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda"));
  ASSERT_EQ(sim.agent().questions.size(), 2U);
  for (auto& question : sim.agent().questions)
    EXPECT_THAT(question, HasSubstr(R"("targets":["app0"],"default_target":"app0")"));
}

TEST_F(disks, a_question_about_a_disk_that_is_gone_is_withdrawn) {
  assign("app0", "sda", "ask-to-attach");
  start("app0");
  auto withdrawn = false;
  sim.agent().answer = [&](auto& stop) {
    EXPECT_FALSE(stop.stop_requested());
    pull_out("sda");
    withdrawn = stop.stop_requested();
    return "allow:app0";
  };
  plug_in("sda");
  EXPECT_TRUE(withdrawn);
  EXPECT_EQ(attached("app0"), "");
}

TEST_F(disks, a_question_is_withdrawn_when_the_backend_stops) {
  assign("app0", "sda", "ask-to-attach");
  start("sys-net1");
  plug_in("sda");
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
  auto withdrawn = false;
  sim.agent().answer = [&](auto& stop) {
    EXPECT_TRUE(sim.ask("sys-net1", ask::kill{}));
    sim.run_until_idle();
    withdrawn = stop.stop_requested();
    return "allow:app0";
  };
  start("app0");
  EXPECT_TRUE(withdrawn);
  EXPECT_EQ(attached("app0"), "");
}

TEST_F(disks, other_requests_go_on_while_a_question_is_open) {
  assign("app0", "sda", "ask-to-attach");
  assign("app0", "sdb", "auto-attach");
  start("app0");
  sim.agent().answer = [&](auto&) {
    plug_in("sdb");
    EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sdb"));
    start("app1");
    return "allow:app0";
  };
  plug_in("sda");
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda"));
}

TEST_F(disks, assigned_disks_are_attached_once_the_domain_runs) {
  assign("app0", "sda", "auto-attach");
  assign("app0", "sdb", "auto-attach");
  assign("app0", "sdc", "ask-to-attach");
  start("sys-net1");
  plug_in("sda");
  plug_in("sdb");
  plug_in("sdc");
  start("app0");
  auto all = attached("app0");
  EXPECT_THAT(all, HasSubstr("sys-net1+sda"));
  EXPECT_THAT(all, HasSubstr("sys-net1+sdb"));
  EXPECT_THAT(all, testing::Not(HasSubstr("sdc")));
  EXPECT_THAT(all, HasSubstr("xvdi")) << all;
  EXPECT_THAT(all, HasSubstr("xvdj")) << "two at once get two places";
}

TEST_F(disks, are_attached_by_the_script_of_a_backend_that_has_it) {
  auto script = HasSubstr(R"(<script path="/etc/xen/scripts/qubes-block")");
  auto given = [&] {
    return sim.hypervisor().attached(sim.world().look().find("app0")->uuid).back();
  };
  start("sys-net1");
  plug_in("sda");
  plug_in("sdb");
  start("app0");
  ASSERT_TRUE(sim.ask("sys-net1", ask::set_feature{"qubes-agent-version", "4.1"}));
  ASSERT_TRUE(attach("app0", "sda"));
  EXPECT_THAT(given(), testing::Not(script));
  ASSERT_TRUE(sim.ask("sys-net1", ask::set_feature{"qubes-agent-version", "4.2"}));
  ASSERT_TRUE(attach("app0", "sdb"));
  EXPECT_THAT(given(), script);
}

TEST_F(disks, of_a_backend_whose_database_comes_late_are_told_once_it_is_there) {
  sim.tools().break_qubesdb("dom0");
  sim.may_lose_track = true;
  caf::anon_send_exit(sim.directory().find("dom0")->domain,
                      caf::exit_reason::unhandled_exception); // the actor's successor begins anew
  sim.run();
  sim.run_until_idle();
  sim.tools().break_qubesdb("dom0", false);
  auto told = [&] {
    return std::ranges::count_if(sim.events(), [](auto& x) {
      return x.subject == "dom0" && x.name == "device-list-change:block";
    });
  };
  sim.pass(std::chrono::minutes{2});
  auto before = told();
  sim.tools().guest_writes("dom0", "/qubes-block-devices/sda/size", "1000");
  sim.tools().guest_writes("dom0", "/qubes-block-devices", "");
  sim.run_until_idle();
  EXPECT_EQ(told(), before + 1);
}

TEST_F(disks, of_a_backend_whose_database_began_anew_are_told) {
  start("sys-net1");
  for (auto backend : {"dom0", "sys-net1"}) {
    sim.tools().break_qubesdb(backend);
    sim.run_until_idle();
    sim.tools().break_qubesdb(backend, false);
    sim.pass(std::chrono::minutes{2});
    auto told = [&] {
      return std::ranges::count_if(sim.events(), [&](auto& x) {
        return x.subject == backend && x.name == "device-list-change:block";
      });
    };
    auto before = told();
    sim.tools().guest_writes(backend, "/qubes-block-devices", "");
    sim.run_until_idle();
    EXPECT_EQ(told(), before + 1) << backend;
  }
}

TEST_F(disks, of_two_backends_may_be_at_ports_of_one_name) {
  start("sys-net1");
  start("sys-net0");
  start("app0");
  plug_in("sda");
  plug_in("sdb");
  for (auto& [key, text] : {std::pair{"desc", "DISK (label)"}, std::pair{"size", "1024"}})
    sim.tools().guest_writes("sys-net0", fmt::format("/qubes-block-devices/sda/{}", key), text);
  for (auto device : {"sys-net1+sdb", "sys-net0+sda", "sys-net1+sda"}) {
    auto ticket = sim.send("app0", ask::attach_device{"block", device});
    sim.run();
    EXPECT_TRUE(*sim.answer_to(ticket)) << device;
  }
}

TEST_F(disks, can_be_attached_again_after_a_failed_attachment) {
  start("sys-net1");
  plug_in("sda");
  start("app0");
  sim.hypervisor().set_script([](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::attach
               ? std::optional{model::error{errc::hypervisor, "its script failed", {}}}
               : std::nullopt;
  });
  EXPECT_FALSE(attach("app0", "sda"));
  sim.hypervisor().set_script({});
  auto done = attach("app0", "sda");
  EXPECT_TRUE(done) << done.error().message();
}

TEST_F(disks, get_the_first_name_that_is_free) {
  start("sys-net1");
  for (auto port : {"sr0", "sr1", "sr2", "sda"})
    plug_in(port);
  start("app0");
  ASSERT_TRUE(sim.ask("app1", ask::set_property{"kernel", ""}));
  start("app1");
  ASSERT_TRUE(attach("app0", "sr0", "_devtype='cdrom'"));
  EXPECT_THAT(attached("app0"), HasSubstr("frontend-dev='xvdi'")) << "its kernel has xvdd";
  ASSERT_TRUE(attach("app1", "sr1", "_devtype='cdrom'"));
  EXPECT_THAT(attached("app1"), HasSubstr("frontend-dev='xvdd'"));
  ASSERT_TRUE(attach("app1", "sr2", "_devtype='cdrom'"));
  EXPECT_THAT(attached("app1"), HasSubstr("frontend-dev='xvdi'"));
  ASSERT_TRUE(attach("app1", "sda"));
  EXPECT_THAT(attached("app1"), HasSubstr("frontend-dev='xvdj'"));
}

TEST_F(disks, many_get_names_of_four_letters) {
  start("sys-net1");
  start("app0");
  for (auto i = 0; i < 19; ++i) {
    plug_in(fmt::format("loop{}", i));
    ASSERT_TRUE(attach("app0", fmt::format("loop{}", i)));
  }
  EXPECT_THAT(attached("app0"), HasSubstr("frontend-dev='xvdz'"));
  EXPECT_THAT(attached("app0"), HasSubstr("frontend-dev='xvdaa'"));
}

TEST_F(disks, a_required_disk_must_be_there_before_the_start) {
  assign("app0", "sda", "required");
  auto refused = sim.ask("app0", ask::start{});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::general);
  EXPECT_THAT(refused.error().text, HasSubstr("is not available"));
  EXPECT_EQ(events_of("app0").back(), "domain-start-failed");
  start("sys-net1");
  plug_in("sda");
  start("app0");
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda"));
}

TEST_F(disks, a_required_disk_is_held_by_its_domain_and_keeps_its_frontend_name) {
  assign("app0", "sda", "required");
  start("sys-net1");
  plug_in("sda");
  plug_in("sdb");
  start("app0");
  start("app1");
  auto refused = attach("app1", "sda");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::device_already_attached);
  EXPECT_THAT(refused.error().text, HasSubstr("'app0'"));
  ASSERT_TRUE(attach("app0", "sdb"));
  EXPECT_THAT(attached("app0"), HasSubstr("_frontend-dev='xvdi'"));
  EXPECT_THAT(attached("app0"), HasSubstr("_frontend-dev='xvdj'"));
}

TEST_F(disks, a_required_disk_is_found_at_any_port) {
  assign("app0", "*::None", "required");
  start("sys-net1");
  auto refused = sim.ask("app0", ask::start{});
  ASSERT_FALSE(refused);
  plug_in("sda");
  start("app0");
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda::None "));
  auto done = sim.send("app0", ask::detach_device{"block", "sys-net1+sda::None"});
  sim.run();
  ASSERT_FALSE(*sim.answer_to(done));
  EXPECT_EQ(sim.answer_to(done)->error().code, errc::vm_not_halted);
}

TEST_F(disks, without_identity_are_not_attached_to_a_domain_that_denies_an_interface) {
  start("sys-net1");
  start("app0");
  plug_in("sda");
  ASSERT_TRUE(sim.ask("app0", ask::deny_interfaces{"u080650"}));
  auto refused = attach("app0", "sda");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::permission_denied);
  EXPECT_TRUE(attach("app0", "sda::None")) << "this is no USB device";
}

// -- one disk has one holder ---------------------------------------------------------------------

TEST_F(disks, that_two_requests_attach_at_once_go_to_one_domain) {
  start("sys-net1");
  start("app0");
  start("app1");
  plug_in("sda");
  for (auto pass = 0; pass < 40; ++pass) {
    auto what = ask::attach_device{"block", "sys-net1+sda"};
    auto tickets = std::pair{sim.send("app0", what), sim.send("app1", what)};
    sim.run();
    auto& one = *sim.answer_to(tickets.first);
    auto& other = *sim.answer_to(tickets.second);
    ASSERT_NE(one.has_value(), other.has_value()) << pass;
    EXPECT_EQ((one ? other : one).error().code, errc::device_already_attached);
    detach(one ? "app0" : "app1", "sda");
  }
}

TEST_F(disks, that_two_starts_require_at_once_go_to_one_domain) {
  assign("app0", "sda", "required");
  assign("app1", "sda", "required");
  start("sys-net1");
  plug_in("sda");
  for (auto pass = 0; pass < 20; ++pass) {
    auto tickets = std::pair{sim.send("app0", ask::start{}), sim.send("app1", ask::start{})};
    sim.run();
    auto& one = *sim.answer_to(tickets.first);
    auto& other = *sim.answer_to(tickets.second);
    ASSERT_NE(one.has_value(), other.has_value()) << pass;
    EXPECT_THAT((one ? other : one).error().text, HasSubstr("is attached to 'app"));
    ASSERT_TRUE(sim.ask(one ? "app0" : "app1", ask::kill{}));
    sim.run_until_idle();
  }
}

TEST_F(disks, that_another_domain_holds_fail_a_start_that_requires_them) {
  assign("app0", "sda", "required");
  start("sys-net1");
  start("app1");
  plug_in("sda");
  ASSERT_TRUE(attach("app1", "sda"));
  auto refused = sim.ask("app0", ask::start{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("sys-net1:sda is attached to 'app1'"));
  detach("app1", "sda");
  start("app0");
  ASSERT_FALSE(attach("app1", "sda"));
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  sim.run_until_idle();
  EXPECT_TRUE(attach("app1", "sda"));
}

TEST_F(disks, that_a_failed_start_needed_are_free_again) {
  assign("app0", "sda", "required");
  start("sys-net1");
  start("app1");
  plug_in("sda");
  sim.hypervisor().set_script([](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::create
               ? std::optional{model::error{errc::hypervisor, "no", {}}}
               : std::nullopt;
  });
  ASSERT_FALSE(sim.ask("app0", ask::start{}));
  sim.hypervisor().set_script({});
  EXPECT_TRUE(attach("app1", "sda"));
}

TEST_F(disks, another_disk_at_the_same_port_is_a_new_one) {
  assign("app0", "*", "auto-attach");
  start("app0");
  plug_in("sda");
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda::None "));
  auto before = events_of("sys-net1").size();
  for (auto& [key, text] : {std::pair{"desc", "OTHER (label)"}, std::pair{"parent", "2-2:1.0"}})
    sim.tools().guest_writes("sys-net1", fmt::format("/qubes-block-devices/sda/{}", key), text);
  sim.tools().guest_writes("sys-net1", "/qubes-block-devices", "");
  sim.run();
  sim.run_until_idle();
  auto news = events_of("sys-net1");
  news.erase(news.begin(), news.begin() + static_cast<std::ptrdiff_t>(before));
  EXPECT_THAT(news, Contains("device-removed:block"));
  EXPECT_THAT(news, Contains("device-added:block"));
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda:0000:0000::?******:1.0 "));
  EXPECT_THAT(events_of("app0"), Contains("device-detach:block"));
}

TEST_F(disks, without_identity_are_distinguished_by_their_description) {
  assign("app0", "*", "auto-attach");
  start("app0");
  plug_in("sda");
  auto added = [&] { return std::ranges::count(events_of("sys-net1"), "device-added:block"); };
  auto describe = [&](const std::string& text) {
    sim.tools().guest_writes("sys-net1", "/qubes-block-devices/sda/desc", text);
    sim.tools().guest_writes("sys-net1", "/qubes-block-devices", "");
    sim.run();
    sim.run_until_idle();
  };
  EXPECT_EQ(added(), 1);
  describe("DISK (formatted)");
  EXPECT_EQ(added(), 1) << "a file system has a new name";
  describe("ANOTHER (formatted)");
  EXPECT_EQ(added(), 2);
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda"));
}

TEST_F(disks, that_the_hypervisor_does_not_let_go_are_still_there) {
  assign("app0", "sda", "auto-attach");
  start("app0");
  start("app1");
  plug_in("sda");
  auto deaf = true;
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string&) {
    return deaf && which == drivers::fake_call::detach
               ? std::optional{model::error{errc::timed_out, "no answer", {}}}
               : std::nullopt;
  });
  pull_out("sda");
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda"));
  EXPECT_THAT(events_of("app0"), testing::Not(Contains("device-detach:block")));
  plug_in("sda");
  auto refused = attach("app1", "sda");
  ASSERT_FALSE(refused) << "it would be the old one's place";
  EXPECT_EQ(refused.error().code, errc::device_already_attached);
  deaf = false;
  sim.pass(std::chrono::seconds{5});
  sim.run_until_idle();
  EXPECT_THAT(events_of("app0"), Contains("device-detach:block"));
  EXPECT_THAT(attached("app0"), HasSubstr("sys-net1+sda")) << "the new one";
}

TEST_F(disks, are_detached_again_when_their_attachment_is_not_answered) {
  start("sys-net1");
  start("app0");
  start("app1");
  plug_in("sda");
  auto deaf = true;
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string&) {
    return deaf && (which == drivers::fake_call::attach || which == drivers::fake_call::detach)
               ? std::optional{model::error{errc::timed_out, "no answer", {}}}
               : std::nullopt;
  });
  ASSERT_FALSE(attach("app0", "sda"));
  EXPECT_EQ(attached("app0"), "");
  auto refused = attach("app1", "sda");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::device_already_attached) << "app0 may have it";
  deaf = false;
  sim.pass(std::chrono::seconds{5});
  EXPECT_TRUE(attach("app1", "sda"));
}

TEST_F(disks, with_an_interface_that_is_denied_do_not_come_by_themselves) {
  assign("app0", "*", "auto-attach");
  assign("app1", "*", "ask-to-attach");
  sim.agent().answer = [](auto&) { return "allow:app1"; };
  start("app0");
  start("app1");
  for (auto who : {"app0", "app1"})
    ASSERT_TRUE(sim.ask(who, ask::deny_interfaces{"b******"}));
  plug_in("sda");
  EXPECT_EQ(attached("app0") + attached("app1"), "");
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  ASSERT_TRUE(sim.ask("app1", ask::kill{}));
  sim.run_until_idle();
  start("app0");
  start("app1");
  EXPECT_EQ(attached("app0") + attached("app1"), "");
  EXPECT_THAT(sim.agent().questions, IsEmpty());
}

// -- questions whose reason is gone --------------------------------------------------------------

TEST_F(disks, a_question_is_withdrawn_with_its_assignment) {
  assign("app0", "sda", "ask-to-attach");
  start("app0");
  EXPECT_TRUE(is_withdrawn_by("app0", ask::unassign_device{"block", "sys-net1+sda"}));
  EXPECT_EQ(attached("app0"), "");
}

TEST_F(disks, an_answer_for_an_earlier_incarnation_is_dropped) {
  assign("app0", "sda", "ask-to-attach");
  start("app0");
  auto asked = 0;
  auto withdrawn = false;
  sim.agent().answer = [&](auto& stop) -> model::outcome<std::string> {
    if (++asked > 1)
      return model::fail(errc::general, "nobody is there");
    auto killed = sim.send("app0", ask::kill{});
    sim.run_until_idle();
    EXPECT_TRUE(sim.answer_to(killed) && *sim.answer_to(killed));
    withdrawn = stop.stop_requested();
    auto started = sim.send("app0", ask::start{});
    sim.run_until_idle();
    EXPECT_TRUE(sim.answer_to(started) && *sim.answer_to(started));
    return "allow:app0";
  };
  plug_in("sda");
  EXPECT_TRUE(withdrawn);
  EXPECT_EQ(attached("app0"), "");
}

TEST_F(disks, a_question_is_withdrawn_when_another_domain_has_the_disk) {
  assign("app0", "sda", "ask-to-attach");
  start("app0");
  start("app1");
  EXPECT_TRUE(is_withdrawn_by("app1", ask::attach_device{"block", "sys-net1+sda"}));
  EXPECT_EQ(attached("app0"), "");
  EXPECT_THAT(attached("app1"), HasSubstr("sys-net1+sda"));
}

TEST_F(guest_notifications, the_clients_of_a_paused_netvm_are_named_before_its_state) {
  start("app0");
  ASSERT_TRUE(sim.ask("sys-net1", ask::pause{}));
  auto refused = sim.ask("sys-net1", ask::shutdown{});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::vm_in_use);
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  refused = sim.ask("sys-net1", ask::shutdown{});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::vm_not_running);
}

TEST_F(guest_notifications, a_suspend_of_a_paused_domain_without_agent_succeeds) {
  start("app0");
  ASSERT_TRUE(sim.ask("app0", ask::pause{}));
  EXPECT_TRUE(sim.ask("app0", ask::suspend{}));
  EXPECT_EQ(events_of("app0").back(), "domain-pre-paused");
}

TEST_F(disks, are_known_again_to_an_actor_that_died) {
  start("app0");
  plug_in("sda");
  ASSERT_TRUE(attach("app0", "sda"));
  auto before = attached("app0");
  ASSERT_THAT(before, HasSubstr("sys-net1+sda"));
  sim.may_lose_track = true;
  caf::anon_send_exit(sim.directory().find("app0")->domain, caf::exit_reason::unhandled_exception);
  sim.run();
  sim.run_until_idle();
  EXPECT_EQ(attached("app0"), before);
  EXPECT_FALSE(attach("app1", "sda"));
}

namespace {

struct pci_devices : testing::Test {
  static model::system host() {
    auto x = sample_host(1, 1);
    auto app = std::make_shared<model::domain>(*x.find("app0"));
    app->devices = {{"pci",
                     {{.backend = "dom0",
                       .port = "00_14.0",
                       .mode = model::assignment_mode::required,
                       .options = {}}}}};
    app->properties["virt_mode"] = std::string{"hvm"};
    x.put(app);
    return x;
  }
  /// One device on the root bus, and one behind a bridge.
  std::string make_sysfs() const {
    namespace fs = std::filesystem;
    auto root = directory / "devices/pci0000:00/";
    fs::create_directories(directory / "bus/pci/devices");
    for (auto place : {"0000:00:14.0", "0000:00:1c.0/0000:03:00.1"}) {
      fs::create_directories(root + place);
      fs::create_symlink(root + place, directory / "bus/pci/devices" / fs::path{place}.filename());
    }
    std::ofstream{root + "0000:00:1c.0/secondary_bus_number"} << 3;
    return directory.str();
  }
  static model::device at(const std::string& address) {
    auto device = model::device{};
    device.backend = "dom0";
    device.port = address;
    device.identity = "8086:0001::p0c0330";
    return device;
  }
  model::outcome<std::string> ask(order what) {
    auto ticket = sim.send("app0", std::move(what));
    sim.run();
    return *sim.answer_to(ticket);
  }

  temp_directory directory;
  simulation sim{1, host(), {}, {}, make_sysfs()};
};

} // namespace

TEST_F(pci_devices, a_missing_device_fails_the_start) {
  auto refused = sim.ask("app0", ask::start{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("00_14.0"));
  EXPECT_EQ(refused.error().code, errc::general);
  EXPECT_THAT(sim.hypervisor().bound_pci(), IsEmpty());
}

TEST_F(pci_devices, a_device_is_taken_from_its_driver_and_given_to_the_guest) {
  sim.hypervisor().set_pci({at("0000:00:14.0")});
  auto done = sim.ask("app0", ask::start{});
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_THAT(sim.hypervisor().bound_pci(), ElementsAre("0000:00:14.0"));
  EXPECT_THAT(ask(ask::list_attached{"pci"}).value_or("refused"), HasSubstr("dom0+00_14.0:8086"));
}

TEST_F(pci_devices, a_display_drops_nomodeset_unless_a_feature_keeps_it) {
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"kernel", "6.1"}));
  auto words = [&] {
    EXPECT_TRUE(sim.ask("app0", ask::start{}));
    auto text = sim.hypervisor().definition(sim.world().look().find("app0")->uuid);
    EXPECT_TRUE(sim.ask("app0", ask::kill{}));
    return text;
  };
  auto device = at("0000:00:14.0");
  sim.hypervisor().set_pci({device});
  EXPECT_THAT(words(), HasSubstr("nomodeset"));
  device.identity = "8086:0001::p030000";
  sim.hypervisor().set_pci({device});
  EXPECT_THAT(words(), testing::AllOf(HasSubstr("cmdline"), testing::Not(HasSubstr("nomodeset"))));
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"no-nomodeset", ""}));
  EXPECT_THAT(words(), HasSubstr("nomodeset"));
}

TEST_F(pci_devices, a_guest_that_is_killed_while_its_devices_are_read_keeps_no_device) {
  sim.hypervisor().set_pci({at("0000:00:14.0")});
  auto killed = std::uint64_t{0};
  sim.hypervisor().meanwhile([&] {
    sim.lanes().hold("app0", drivers::lane::disk);
    killed = sim.send("app0", ask::kill{});
    sim.run_until_idle();
  });
  auto started = sim.send("app0", ask::start{});
  sim.run_until_idle();
  EXPECT_GT(sim.lanes().held(), 0U) << "the start is still being undone";
  sim.lanes().hold("");
  sim.run();
  EXPECT_FALSE(*sim.answer_to(started));
  EXPECT_TRUE(*sim.answer_to(killed));
  EXPECT_THAT(sim.world().holders.of_holder("app0"), testing::IsEmpty());
  EXPECT_TRUE(ask(ask::start{}));
}

TEST_F(pci_devices, devices_of_the_host_are_listed_without_asking_the_hypervisor) {
  auto offered = [&] {
    auto ticket = sim.send("dom0", ask::list_available{"pci"});
    sim.run_until_idle();
    auto* said = sim.answer_to(ticket);
    return said ? said->value_or("refused") : "it is not answered";
  };
  sim.hypervisor().set_pci({at("0000:00:14.0")});
  sim.run_until_idle();
  sim.lanes().hold("dom0");
  EXPECT_THAT(offered(), HasSubstr("00_14.0"));
  sim.hypervisor().set_pci({});
  sim.run_until_idle();
  EXPECT_EQ(offered(), "") << "it has heard of the change";
  sim.lanes().hold("");
}

TEST_F(pci_devices, a_device_behind_a_bridge_is_attached_and_detached_by_its_address) {
  sim.hypervisor().set_pci({at("0000:00:14.0"), at("0000:03:00.1")});
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto uuid = sim.world().look().find("app0")->uuid;
  auto port = std::string{"00_1c.0-00_00.1"};
  auto done = ask(ask::attach_device{"pci", "dom0+" + port});
  ASSERT_TRUE(done) << done.error().message();
  auto given = sim.hypervisor().attached(uuid);
  ASSERT_FALSE(given.empty());
  EXPECT_THAT(given.back(), HasSubstr(R"(domain="0x0000" bus="0x03" slot="0x00" function="0x1")"));
  EXPECT_THAT(ask(ask::list_attached{"pci"}).value_or("refused"), HasSubstr(port));
  done = ask(ask::detach_device{"pci", "dom0+" + port});
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(sim.hypervisor().attached(uuid).size(), given.size() - 1);
}

TEST_F(pci_devices, a_device_attached_before_the_actor_was_spawned_can_be_detached) {
  sim.hypervisor().set_pci({at("0000:00:14.0"), at("0000:03:00.1")});
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto uuid = sim.world().look().find("app0")->uuid;
  auto port = std::string{"00_1c.0-00_00.1"};
  ASSERT_TRUE(ask(ask::attach_device{"pci", "dom0+" + port}));
  sim.may_lose_track = true;
  caf::anon_send_exit(sim.directory().find("app0")->domain, caf::exit_reason::unhandled_exception);
  sim.run();
  sim.run_until_idle();
  EXPECT_THAT(ask(ask::list_attached{"pci"}).value_or("refused"), HasSubstr(port));
  auto done = ask(ask::detach_device{"pci", "dom0+" + port});
  ASSERT_TRUE(done) << done.error().message();
}

// -- firewall rules -------------------------------------------------------------------------------

namespace {

struct firewall_of_a_domain : guest_notifications {
  firewall_of_a_domain() { EXPECT_TRUE(sim.disk().make_directory("appvms/app0")); }

  std::int64_t now_s = sim.world().wall_us() / 1'000'000;

  std::string rules(const std::string& of) {
    auto x = sim.ask(of, ask::get_firewall{});
    return x ? *x : x.error().message();
  }
  std::string set(const std::string& text) {
    auto x = sim.ask("app0", ask::set_firewall{text});
    return x ? *x : x.error().message();
  }
  static std::string with_end(std::int64_t at) {
    return fmt::format("action=accept dst4=10.0.0.7/32 expire={}\naction=drop\n", at);
  }
  std::string file() {
    auto text = sim.disk().read("appvms/app0/firewall.xml", 65536);
    return text && *text ? **text : "-";
  }
  std::string pushed() { return entry("sys-net1", "/qubes-firewall/10.137.0.4/0000"); }
  auto heard() {
    return std::ranges::count_if(
        sim.events(), [](auto& x) { return x.subject == "app0" && x.name == "firewall-changed"; });
  }
};

} // namespace

TEST_F(firewall_of_a_domain, that_the_netvm_does_not_take_are_no_secret_and_follow) {
  auto degraded = [&] { return sim.world().status.degraded().contains("app0"); };
  start("app0");
  ASSERT_EQ(pushed(), "action=accept");
  sim.tools().break_qubesdb("sys-net1");
  auto refused = sim.ask("app0", ask::set_firewall{"action=drop"});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("'app0': its firewall is not in force, 'sys-net1'"));
  EXPECT_THAT(refused.error().hint, HasSubstr("saved"));
  EXPECT_TRUE(degraded());
  sim.tools().break_qubesdb("sys-net1", false);
  sim.pass(std::chrono::minutes{2});
  EXPECT_EQ(pushed(), "action=drop");
  EXPECT_FALSE(degraded());

  sim.tools().break_qubesdb("sys-net1");
  EXPECT_FALSE(sim.ask("app0", ask::set_firewall{"action=accept"}));
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_FALSE(degraded()) << "who is down has nothing to be enforced";
  start("app0");
  EXPECT_EQ(sim.state_of("app0"), power::running);
  EXPECT_TRUE(degraded());
  start("sys-net0");
  EXPECT_EQ(sim.world().status.degraded().size(), 1U) << "others are well";
  sim.tools().break_qubesdb("sys-net1", false);
  sim.pass(std::chrono::minutes{2});
  EXPECT_EQ(pushed(), "action=accept");
  EXPECT_FALSE(degraded());
}

TEST_F(firewall_of_a_domain, that_did_not_start_is_none_that_is_not_in_force) {
  start("sys-net1");
  sim.tools().break_qubesdb("sys-net1");
  sim.hypervisor().set_script([](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::create
               ? std::optional{model::error{model::errc::hypervisor, "no luck", {}}}
               : std::nullopt;
  });
  EXPECT_FALSE(sim.ask("app0", ask::start{}));
  EXPECT_FALSE(sim.world().status.degraded().contains("app0"));
  sim.hypervisor().set_script({});
  start("app0");
  EXPECT_TRUE(sim.world().status.degraded().contains("app0"));
  sim.tools().break_qubesdb("sys-net1", false);
  sim.pass(std::chrono::minutes{3});
  EXPECT_FALSE(sim.world().status.degraded().contains("app0"));
  EXPECT_EQ(pushed(), "action=accept");
}

TEST_F(firewall_of_a_domain, a_rule_ends_by_itself_in_the_file_and_in_the_netvm) {
  start("app0");
  ASSERT_EQ(set(with_end(now_s + 600)), "");
  EXPECT_EQ(pushed(), "action=accept dst4=10.0.0.7/32");
  EXPECT_EQ(heard(), 1);
  sim.pass(std::chrono::seconds{590});
  EXPECT_THAT(rules("app0"), HasSubstr("10.0.0.7"));
  EXPECT_EQ(heard(), 1);
  sim.pass(std::chrono::seconds{20});
  EXPECT_EQ(rules("app0"), "action=drop\n");
  EXPECT_EQ(pushed(), "action=drop");
  EXPECT_EQ(entry("sys-net1", "/qubes-firewall/10.137.0.4/0001"), "-");
  EXPECT_EQ(heard(), 2) << "listeners are told that the rules changed";
  EXPECT_THAT(file(), testing::Not(HasSubstr("10.0.0.7")));
}

TEST_F(firewall_of_a_domain, the_rules_that_were_set_last_decide_when_to_wake_up) {
  start("app0");
  ASSERT_EQ(set(with_end(now_s + 60)), "");
  ASSERT_EQ(set(with_end(now_s + 3600)), "");
  sim.pass(std::chrono::seconds{120});
  EXPECT_EQ(pushed(), "action=accept dst4=10.0.0.7/32");
  EXPECT_EQ(heard(), 2);
}

TEST_F(firewall_of_a_domain, a_rule_that_ended_while_the_domain_was_off_is_not_enforced) {
  ASSERT_EQ(set(with_end(now_s + 60)), "");
  sim.pass(std::chrono::seconds{120});
  start("app0");
  EXPECT_EQ(pushed(), "action=drop");
  EXPECT_EQ(rules("app0"), "action=drop\n");
}

/// The daemon read the file for the rules that end, and a client has replaced the file since.
TEST_F(firewall_of_a_domain, rules_that_are_set_while_others_end_stay) {
  start("app0");
  ASSERT_EQ(set(with_end(now_s + 60)), "");
  sim.lanes().hold("app0");
  sim.pass(std::chrono::seconds{70});
  auto ticket =
      sim.send("app0", ask::set_firewall{"action=accept dst4=10.0.0.9/32\naction=drop\n"});
  sim.run_until_idle();
  ASSERT_FALSE(sim.answer_to(ticket));
  sim.lanes().hold("");
  sim.run();
  EXPECT_TRUE(*sim.answer_to(ticket));
  EXPECT_THAT(file(), HasSubstr("10.0.0.9"));
  EXPECT_EQ(pushed(), "action=accept dst4=10.0.0.9/32");
}

TEST_F(firewall_of_a_domain, a_rule_follows_a_clock_that_is_set) {
  start("app0");
  ASSERT_EQ(set(with_end(now_s + 7200)), "");
  sim.step_clock(std::chrono::seconds{7100});
  sim.pass(std::chrono::seconds{61});
  EXPECT_THAT(rules("app0"), HasSubstr("10.0.0.7"));
  sim.pass(std::chrono::seconds{61});
  EXPECT_EQ(pushed(), "action=drop");
}

TEST_F(firewall_of_a_domain, a_rule_ends_even_when_the_file_cannot_be_written) {
  start("app0");
  ASSERT_EQ(set(with_end(now_s + 60)), "");
  sim.disk().fail_at(2, "No space left on device"); // after the file was read and found unchanged
  sim.pass(std::chrono::seconds{120});
  EXPECT_EQ(pushed(), "action=drop");
  EXPECT_THAT(file(), HasSubstr("10.0.0.7"));
}

TEST_F(firewall_of_a_domain, an_unreadable_rule_is_reported_until_new_rules_are_set) {
  auto text = std::string{R"(<firewall version="2"><rules>
<rule><properties><property name="action">accept</property><property name="comment">R&amp;D</property>
<property name="expire">)"}
              + std::to_string(now_s + 60) + R"(</property></properties></rule>
<rule><properties><property name="action">drop</property><property name="proto">gre</property></properties></rule>
<rule><properties><property name="action">accept</property></properties></rule>
</rules></firewall>)";
  sim.disk().foreign_write("appvms/app0/firewall.xml", text);
  start("app0");
  EXPECT_EQ(pushed(), "action=accept");
  EXPECT_EQ(entry("sys-net1", "/qubes-firewall/10.137.0.4/0001"), "action=drop");
  auto told = [&] { return sim.world().status.files()["app0"]["firewall.xml"]; };
  EXPECT_THAT(told(), testing::ElementsAre(HasSubstr("rule 1 has no comment"),
                                           HasSubstr("rule 2 drops all")));
  sim.pass(std::chrono::seconds{120});
  EXPECT_EQ(entry("sys-net1", "/qubes-firewall/10.137.0.4/0000"), "-") << "it has ended";
  EXPECT_EQ(file(), text) << "what its owner wrote stays";
  ASSERT_EQ(set("action=accept\n"), "");
  EXPECT_TRUE(told().empty());
  EXPECT_EQ(pushed(), "action=accept");
}

} // namespace qubes::tests
