#include "tests/model/sample_system.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace qubes;
using namespace qubes::model;
using testing::ElementsAre;
using testing::IsEmpty;
using tests::sample_system;

namespace {

/// `work!property-set:memory newvalue=500 oldvalue=400`; the name of a property is left out.
std::string events_of(const event& x) {
  auto text = x.subject + "!" + x.name;
  for (auto& [key, value] : x.args)
    if (key != "name" && key != "feature" && key != "tag")
      text += fmt::format(" {}={}", key, value);
  return text;
}

std::vector<std::string> events_of(const std::vector<event>& some) {
  auto result = std::vector<std::string>{};
  for (auto& x : some)
    result.push_back(events_of(x));
  return result;
}

class plans : public testing::Test {
protected:
  plan set(std::string_view owner, std::string_view name, std::string_view text) const {
    return plan_set_property(at.view(), at.system.find(owner), name, text);
  }
  plan reset(std::string_view owner, std::string_view name) const {
    return plan_reset_property(at.view(), at.system.find(owner), name);
  }
  plan feature(std::string_view owner, std::string_view name, std::string_view text) const {
    return plan_set_feature(at.view(), at[owner], name, text);
  }
  errc refused_feature(std::string_view owner, std::string_view name, std::string_view text) const {
    return code(feature(owner, name, text));
  }

  static errc code(const plan& x) { return x.refusal ? x.refusal->code : errc::none; }

  /// The request is refused, and no other client hears of it.
  static void expect_quiet(const plan& x, errc why) {
    EXPECT_EQ(code(x), why);
    EXPECT_THAT(events_of(x.before), IsEmpty());
    EXPECT_THAT(events_of(x.after), IsEmpty());
    EXPECT_TRUE(x.what.empty());
  }

  /// The request is refused after an event has announced it.
  static void expect_heard(const plan& x, errc why, std::string_view last) {
    EXPECT_EQ(code(x), why);
    ASSERT_FALSE(x.before.empty());
    EXPECT_EQ(events_of(x.before.back()), last);
    EXPECT_THAT(events_of(x.after), IsEmpty());
    EXPECT_TRUE(x.what.empty());
  }

  std::string lines(const plan& x) const { return print(at.system, x.what); }

  sample_system at;
};

} // namespace

// -- properties -------------------------------------------------------------------------------

TEST_F(plans, a_set_is_announced_then_told) {
  auto x = set("work", "memory", "500");
  EXPECT_THAT(events_of(x.before),
              ElementsAre("work!property-pre-set:memory newvalue=500 oldvalue=400"));
  EXPECT_THAT(events_of(x.after),
              ElementsAre("work!property-set:memory newvalue=500 oldvalue=400"));
  EXPECT_EQ(lines(x), "work: memory = 500 (was default)\n");
  auto first = x.before.front().args.front();
  EXPECT_EQ(first.first, "name");
  EXPECT_EQ(first.second, "memory");
}

TEST_F(plans, a_reset_is_told_under_the_old_names_too) {
  at.make({{set_property{"work", "memory", std::int64_t{500}}}});
  auto x = reset("work", "memory");
  EXPECT_THAT(events_of(x.before), ElementsAre("work!property-pre-reset:memory oldvalue=500",
                                               "work!property-pre-del:memory oldvalue=500"));
  EXPECT_THAT(events_of(x.after), ElementsAre("work!property-reset:memory oldvalue=500",
                                              "work!property-del:memory oldvalue=500"));
  EXPECT_EQ(lines(x), "work: memory = default (was 500)\n");
}

TEST_F(plans, a_value_that_is_set_already_has_events_and_is_not_written) {
  at.make({{set_property{"work", "memory", std::int64_t{500}}}});
  auto x = set("work", "memory", "500");
  EXPECT_EQ(x.after.size(), 1U);
  EXPECT_TRUE(x.what.empty());
  auto y = reset("work", "vcpus");
  EXPECT_EQ(y.after.size(), 2U);
  EXPECT_TRUE(y.what.empty());
}

TEST_F(plans, an_old_value_that_was_never_there_is_left_out) {
  at.make({{reset_property{"work", "label"}}});
  EXPECT_THAT(events_of(set("work", "label", "blue").before),
              ElementsAre("work!property-pre-set:label newvalue=blue"));
}

TEST_F(plans, bad_text_is_refused_quietly) {
  expect_quiet(set("work", "nonsense", "1"), errc::no_such_property);
  expect_quiet(set("work", "memory", "much"), errc::value);
  expect_quiet(set("work", "memory", "-1"), errc::property_value);
  expect_quiet(set("work", "xid", "7"), errc::property_value);
  expect_quiet(set("work", "qid", "77"), errc::no_such_property);
  expect_quiet(reset("work", "qid"), errc::no_such_property);
  expect_quiet(reset("work", "nonsense"), errc::no_such_property);
}

TEST_F(plans, a_computed_value_can_be_reset_without_effect) {
  auto x = reset("work", "icon");
  EXPECT_EQ(x.before.size() + x.after.size(), 4U);
  EXPECT_TRUE(x.what.empty());
}

TEST_F(plans, a_kernel_that_is_not_installed_is_announced_and_refused) {
  expect_heard(set("work", "kernel", "9.9"), errc::property_value,
               "work!property-pre-set:kernel newvalue=9.9 oldvalue=6.1");
  expect_heard(set("", "default_kernel", "broken"), errc::property_value,
               "!property-pre-set:default_kernel newvalue=broken oldvalue=6.1");
}

TEST_F(plans, a_template_changes_only_while_the_domain_is_halted) {
  EXPECT_EQ(code(set("work", "template", "fedora")), errc::none);
  at.live("work", power::running);
  expect_heard(set("work", "template", "fedora"), errc::vm_not_halted,
               "work!property-pre-set:template newvalue=fedora oldvalue=debian");
}

TEST_F(plans, a_template_is_never_reset) {
  expect_heard(reset("work", "template"), errc::value,
               "work!property-pre-reset:template oldvalue=debian");
}

TEST_F(plans, maxmem_of_a_running_domain_needs_hotplug) {
  at.live("work", power::running);
  EXPECT_EQ(code(set("work", "maxmem", "3000")), errc::vm_not_halted);
  at.make({{set_property{"work", "kernel", "6.6"}}});
  EXPECT_EQ(code(set("work", "maxmem", "3000")), errc::none);
}

TEST_F(plans, a_disposable_template_in_use_is_refused_after_the_announcement) {
  expect_heard(set("dvm", "template_for_dispvms", "False"), errc::vm_in_use,
               "dvm!property-pre-set:template_for_dispvms newvalue=False oldvalue=True");
  expect_heard(reset("dvm", "template_for_dispvms"), errc::vm_in_use,
               "dvm!property-pre-reset:template_for_dispvms oldvalue=True");
}

TEST_F(plans, looks_are_announced_for_domains_that_have_windows) {
  EXPECT_THAT(events_of(set("work", "label", "blue").after),
              ElementsAre("work!property-reset:icon",
                          "work!property-set:label newvalue=blue oldvalue=red"));
  EXPECT_THAT(events_of(set("far", "label", "blue").after),
              ElementsAre("far!property-set:label newvalue=blue oldvalue=red"));
}

// -- network ----------------------------------------------------------------------------------

TEST_F(plans, a_netvm_that_loops_or_provides_nothing_is_refused_quietly) {
  expect_quiet(set("sys-net", "netvm", "sys-vpn"), errc::value);
  expect_quiet(set("work", "netvm", "vault"), errc::value);
  expect_quiet(set("sys-firewall", "provides_network", "False"), errc::value);
  expect_quiet(set("", "default_netvm", "work"), errc::property_value);
}

TEST_F(plans, a_running_domain_is_not_connected_to_a_halted_netvm) {
  at.live("work", power::running);
  expect_heard(set("work", "netvm", "sys-vpn"), errc::vm_not_started,
               "work!property-pre-set:netvm newvalue=sys-vpn oldvalue=sys-firewall");
  at.live("sys-vpn", power::running);
  EXPECT_THAT(events_of(set("work", "netvm", "sys-vpn").after),
              ElementsAre("work!property-set:netvm newvalue=sys-vpn oldvalue=sys-firewall"));
  EXPECT_EQ(code(set("work", "netvm", "")), errc::none);
}

TEST_F(plans, a_reset_that_leads_to_another_netvm_is_also_told_as_a_set) {
  auto x = reset("vault", "netvm");
  EXPECT_THAT(events_of(x.before),
              ElementsAre("vault!property-pre-reset:netvm oldvalue=None",
                          "vault!property-pre-set:netvm newvalue=sys-firewall oldvalue=None",
                          "vault!property-pre-del:netvm oldvalue=None"));
  EXPECT_THAT(events_of(x.after),
              ElementsAre("vault!property-set:netvm newvalue=sys-firewall oldvalue=None",
                          "vault!property-reset:netvm oldvalue=None",
                          "vault!property-del:netvm oldvalue=None"));
  EXPECT_EQ(reset("work", "netvm").before.size(), 2U);
}

TEST_F(plans, a_reset_to_a_halted_netvm_is_refused_for_a_running_domain) {
  at.live("vault", power::running);
  expect_heard(reset("vault", "netvm"), errc::vm_not_started,
               "vault!property-pre-set:netvm newvalue=sys-firewall oldvalue=None");
}

TEST_F(plans, a_reset_that_would_loop_is_refused_after_the_announcement) {
  expect_heard(reset("sys-firewall", "netvm"), errc::value,
               "sys-firewall!property-pre-reset:netvm oldvalue=sys-net");
}

TEST_F(plans, a_paused_domain_keeps_its_former_netvm_in_a_feature) {
  at.live("work", power::paused);
  at.live("sys-vpn", power::running);
  auto x = set("work", "netvm", "sys-vpn");
  EXPECT_THAT(events_of(x.before),
              ElementsAre("work!property-pre-set:netvm newvalue=sys-vpn oldvalue=sys-firewall",
                          "work!domain-feature-pre-set:deferred-netvm-original value=sys-firewall",
                          "work!domain-feature-set:deferred-netvm-original value=sys-firewall"));
  EXPECT_THAT(events_of(x.after),
              ElementsAre("work!property-set:netvm newvalue=sys-vpn oldvalue=sys-firewall"));
  at.make(x.what);
  EXPECT_THAT(events_of(set("work", "netvm", "").after),
              ElementsAre("work!property-set:netvm newvalue=None oldvalue=sys-vpn"));
}

TEST_F(plans, a_default_netvm_is_announced_to_all_that_use_it) {
  auto x = set("", "default_netvm", "sys-vpn");
  EXPECT_THAT(events_of(x.before),
              ElementsAre("!property-pre-set:default_netvm newvalue=sys-vpn oldvalue=sys-firewall",
                          "alone!property-pre-set:netvm newvalue=sys-vpn oldvalue=sys-firewall",
                          "debian!property-pre-set:netvm newvalue=sys-vpn oldvalue=sys-firewall",
                          "disp1!property-pre-set:netvm newvalue=sys-vpn oldvalue=sys-firewall",
                          "dvm!property-pre-set:netvm newvalue=sys-vpn oldvalue=sys-firewall",
                          "fedora!property-pre-set:netvm newvalue=sys-vpn oldvalue=sys-firewall",
                          "work!property-pre-set:netvm newvalue=sys-vpn oldvalue=sys-firewall"));
  ASSERT_EQ(x.after.size(), 13U);
  EXPECT_EQ(events_of(x.after[0]),
            "alone!property-set:netvm newvalue=sys-vpn oldvalue=sys-firewall");
  EXPECT_EQ(events_of(x.after[1]), "alone!property-reset:netvm oldvalue=sys-firewall");
  EXPECT_EQ(events_of(x.after[2]), "debian!property-set:netvm newvalue=None oldvalue=sys-firewall");
  EXPECT_EQ(events_of(x.after[12]),
            "!property-set:default_netvm newvalue=sys-vpn oldvalue=sys-firewall");
  EXPECT_EQ(lines(x), "host: default_netvm = sys-vpn (was sys-firewall)\n");
}

TEST_F(plans, a_running_client_of_the_default_netvm_can_refuse_its_change_and_a_template_cannot) {
  at.live("debian", power::running);
  EXPECT_EQ(code(set("", "default_netvm", "sys-vpn")), errc::none);
  at.live("disp1", power::running);
  expect_heard(set("", "default_netvm", "sys-vpn"), errc::vm_not_started,
               "disp1!property-pre-set:netvm newvalue=sys-vpn oldvalue=sys-firewall");
}

TEST_F(plans, a_provider_becomes_a_service_domain) {
  auto on = set("vault", "provides_network", "True");
  EXPECT_THAT(events_of(on.after),
              ElementsAre("vault!domain-feature-pre-set:servicevm value=1",
                          "vault!domain-feature-set:servicevm value=1", "vault!property-reset:icon",
                          "vault!property-reset:gateway", "vault!property-reset:gateway6",
                          "vault!property-set:provides_network newvalue=True oldvalue=False"));
  at.make(on.what);
  auto off = set("vault", "provides_network", "False");
  EXPECT_THAT(events_of(off.after),
              ElementsAre("vault!domain-feature-pre-delete:servicevm",
                          "vault!domain-feature-delete:servicevm", "vault!property-reset:icon",
                          "vault!property-reset:gateway", "vault!property-reset:gateway6",
                          "vault!property-set:provides_network newvalue=False oldvalue=True"));
  at.make(off.what);
  EXPECT_EQ(at["vault"].features.find("servicevm"), nullptr);
}

TEST_F(plans, an_address_is_announced_to_clients) {
  EXPECT_THAT(
      events_of(set("sys-firewall", "ip", "10.137.0.77").after),
      ElementsAre("sys-firewall!property-reset:gateway", "sys-firewall!property-reset:visible_ip",
                  "alone!property-reset:visible_gateway", "disp1!property-reset:visible_gateway",
                  "dvm!property-reset:visible_gateway", "sys-vpn!property-reset:visible_gateway",
                  "work!property-reset:visible_gateway",
                  "sys-firewall!property-set:ip newvalue=10.137.0.77 oldvalue=10.137.0.4"));
  EXPECT_EQ(set("work", "ip", "10.137.0.6").after.size(), 1U);
}

// -- values taken over from others ------------------------------------------------------------

TEST_F(plans, children_hear_of_a_value_they_take_over) {
  at.make({{set_property{"work", "vcpus", std::int64_t{4}}}});
  EXPECT_THAT(events_of(set("debian", "vcpus", "3").after),
              ElementsAre("dvm!property-reset:vcpus", "sys-firewall!property-reset:vcpus",
                          "sys-net!property-reset:vcpus", "sys-vpn!property-reset:vcpus",
                          "debian!property-set:vcpus newvalue=3 oldvalue=2"));
  EXPECT_EQ(set("debian", "vcpus", "2").after.size(), 1U);
  EXPECT_EQ(set("dvm", "vcpus", "3").after.size(), 1U);
}

TEST_F(plans, a_layout_is_announced_to_those_shown_by_the_domain) {
  at.make({{set_property{"work", "guivm", "vault"}, set_property{"alone", "guivm", "vault"},
            set_property{"alone", "keyboard_layout", "de++"}}});
  EXPECT_THAT(events_of(set("vault", "keyboard_layout", "fr++").after),
              ElementsAre("work!property-reset:keyboard_layout oldvalue=us++",
                          "vault!property-set:keyboard_layout newvalue=fr++ oldvalue=us++"));
}

TEST_F(plans, boot_modes_of_children_are_announced) {
  EXPECT_THAT(
      events_of(set("fedora", "appvm_default_bootmode", "safe").after),
      ElementsAre("vault!property-reset:bootmode",
                  "fedora!property-set:appvm_default_bootmode newvalue=safe oldvalue=default"));
}

// -- tags that follow -------------------------------------------------------------------------

TEST_F(plans, the_gui_domain_is_named_by_a_tag) {
  auto x = set("work", "guivm", "vault");
  EXPECT_THAT(events_of(x.after),
              ElementsAre("work!domain-tag-delete:guivm-dom0", "work!domain-tag-add:guivm-vault",
                          "work!property-set:guivm newvalue=vault oldvalue=dom0"));
  at.make(x.what);
  EXPECT_THAT(at["work"].tags, ElementsAre("audiovm-dom0", "guivm-vault"));
  at.make(reset("work", "guivm").what);
  EXPECT_THAT(at["work"].tags, ElementsAre("audiovm-dom0", "guivm-dom0"));
  at.make(set("work", "guivm", "").what);
  EXPECT_THAT(at["work"].tags, ElementsAre("audiovm-dom0"));
}

TEST_F(plans, left_over_tags_of_a_kind_are_cleared_away) {
  at.make({{add_tag{"work", "guivm-gone"}}});
  at.make(set("work", "guivm", "vault").what);
  EXPECT_THAT(at["work"].tags, ElementsAre("audiovm-dom0", "guivm-vault"));
}

TEST_F(plans, a_default_gui_domain_changes_the_tags_of_all_that_use_it) {
  at.make(set("work", "guivm", "vault").what);
  auto x = set("", "default_guivm", "alone");
  EXPECT_EQ(events_of(x.after.front()), "alone!domain-tag-delete:guivm-dom0");
  EXPECT_EQ(events_of(x.after[2]), "alone!property-set:guivm newvalue=alone oldvalue=dom0");
  at.make(x.what);
  EXPECT_TRUE(at["vault"].tags.contains("guivm-alone"));
  EXPECT_TRUE(at["work"].tags.contains("guivm-vault"));
  EXPECT_TRUE(at["dom0"].tags.empty());
}

TEST_F(plans, a_relay_is_named_by_a_tag) {
  at.make(set("far", "relayvm", "vault").what);
  EXPECT_THAT(at["far"].tags, ElementsAre("relayvm-vault"));
  at.make(reset("far", "relayvm").what);
  EXPECT_THAT(at["far"].tags, IsEmpty());
}

TEST_F(plans, the_clock_moves_from_one_domain_to_the_other) {
  auto first = set("", "clockvm", "sys-net");
  at.make(first.what);
  auto x = set("", "clockvm", "vault");
  EXPECT_THAT(events_of(x.after),
              ElementsAre("vault!domain-feature-pre-set:service.clocksync value=1",
                          "vault!domain-feature-set:service.clocksync value=1",
                          "sys-net!domain-feature-pre-delete:service.clocksync",
                          "sys-net!domain-feature-delete:service.clocksync",
                          "!property-set:clockvm newvalue=vault oldvalue=sys-net"));
  at.make(x.what);
  EXPECT_EQ(at["sys-net"].features.find("service.clocksync"), nullptr);
  EXPECT_EQ(set("", "clockvm", "vault").after.size(), 1U);
}

TEST_F(plans, a_default_disposable_template_is_announced_to_all_that_use_it) {
  auto x = reset("", "default_dispvm");
  EXPECT_EQ(events_of(x.after.front()), "dom0!property-reset:default_dispvm oldvalue=dvm");
  EXPECT_EQ(x.after.size(), 13U);
}

// -- features ---------------------------------------------------------------------------------

TEST_F(plans, a_feature_is_announced_then_told) {
  auto x = feature("work", "f", "1");
  EXPECT_THAT(events_of(x.before), ElementsAre("work!domain-feature-pre-set:f value=1"));
  EXPECT_THAT(events_of(x.after), ElementsAre("work!domain-feature-set:f value=1"));
  at.make(x.what);
  EXPECT_THAT(events_of(feature("work", "f", "").after),
              ElementsAre("work!domain-feature-set:f value= oldvalue=1"));
  auto removal = plan_remove_feature(at.view(), at["work"], "f");
  EXPECT_THAT(events_of(removal.before), ElementsAre("work!domain-feature-pre-delete:f"));
  EXPECT_THAT(events_of(removal.after), ElementsAre("work!domain-feature-delete:f"));
}

TEST_F(plans, removing_a_feature_that_is_not_there_is_heard_and_refused) {
  expect_heard(plan_remove_feature(at.view(), at["work"], "f"), errc::feature_not_found,
               "work!domain-feature-pre-delete:f");
}

TEST_F(plans, bad_names_and_characters_are_refused_quietly) {
  expect_quiet(feature("work", "a/b", "1"), errc::protocol);
  expect_quiet(feature("work", "", "1"), errc::protocol);
  expect_quiet(feature("work", "f", "a\nb"), errc::protocol);
  expect_quiet(plan_remove_feature(at.view(), at["work"], "a b"), errc::protocol);
}

TEST_F(plans, names_of_services_fit_into_qubesdb) {
  auto name = [](std::size_t length) { return "service." + std::string(length, 'x'); };
  EXPECT_EQ(refused_feature("work", name(48), "1"), errc::none);
  EXPECT_EQ(refused_feature("work", name(49), "1"), errc::value);
  EXPECT_EQ(refused_feature("work", "service.app-dispvm." + std::string(60, 'x'), "1"), errc::none);
  for (auto bad : {"service.", "service..", "service..."})
    expect_heard(feature("work", bad, "1"), errc::value,
                 fmt::format("work!domain-feature-pre-set:{} value=1", bad));
  EXPECT_EQ(refused_feature("far", "service.", "1"), errc::none);
}

TEST_F(plans, names_of_configuration_start_with_a_letter) {
  EXPECT_EQ(refused_feature("work", "vm-config." + std::string(52, 'x'), "1"), errc::none);
  EXPECT_EQ(refused_feature("work", "vm-config." + std::string(53, 'x'), "1"), errc::value);
  EXPECT_EQ(refused_feature("work", "vm-config.", "1"), errc::value);
  EXPECT_EQ(refused_feature("work", "vm-config.1a", "1"), errc::value);
}

TEST_F(plans, persistent_paths_are_absolute) {
  auto code_of = [&](std::string_view text) {
    return refused_feature("work", "custom-persist.x", text);
  };
  for (auto good : {"/home", "file:user:user:0644:/a:b", "dir:root:root:7777:/"})
    EXPECT_EQ(code_of(good), errc::none) << good;
  for (auto bad : {"", "home", "file:user:user:0644:a", "link:u:u:0644:/a", "file:u:u:10000:/a",
                   "file:u:u:9:/a", "file:u:u::/a", "file::u:0644:/a", "file:u:u:0644"})
    EXPECT_EQ(code_of(bad), errc::value) << bad;
  EXPECT_EQ(refused_feature("work", "custom-persist.", "/home"), errc::value);
}

TEST_F(plans, addresses_shown_inside_are_addresses) {
  for (auto name : {"net.fake-ip", "net.fake-gateway", "net.fake-netmask"}) {
    for (auto good : {"", "192.168.1.128", "255.255.255.0"})
      EXPECT_EQ(refused_feature("work", name, good), errc::none) << name << " " << good;
    for (auto bad : {"not-an-ip", "10.0.0", "10.0.0.256", "10.0.0.1/24", "fd09::1", " 10.0.0.1"})
      EXPECT_EQ(refused_feature("work", name, bad), errc::value) << name << " " << bad;
  }
  EXPECT_EQ(refused_feature("work", "net.fake-ip", "24"), errc::value);
  for (auto good : {"0", "24"})
    EXPECT_EQ(refused_feature("work", "net.fake-netmask", good), errc::none) << good;
  for (auto bad : {"25", "-1", "+8", "8.", "99999999999"})
    EXPECT_EQ(refused_feature("work", "net.fake-netmask", bad), errc::value) << bad;
}

TEST_F(plans, a_volume_of_a_container_hides_nothing_that_it_needs) {
  auto mounted = [&](std::string_view where) {
    return feature("work", "container.volatile", where);
  };
  for (auto good : {"", "/scratch", "/var/tmp", "/rwx", "/home/./rw", "//srv"})
    EXPECT_EQ(code(mounted(good)), errc::none) << good;
  for (auto bad : {"scratch", "/srv/../rw", "/srv/..", "/", "//", "/.", "/rw", "/rw/", "//rw",
                   "/./rw/x", "/proc", "/sys/fs", "/dev"})
    EXPECT_EQ(code(mounted(bad)), errc::value) << bad;
  EXPECT_THAT(mounted("/rw").refusal->hint,
              testing::HasSubstr("outside /rw, /proc, /sys and /dev, like /var/tmp"));
}

TEST_F(plans, only_able_templates_preload_disposables) {
  EXPECT_EQ(refused_feature("dvm", "preload-dispvm-max", "2"), errc::value);
  at.make({{set_feature{"debian", "qrexec", "1"}}});
  EXPECT_EQ(refused_feature("dvm", "preload-dispvm-max", "2"), errc::value);
  at.make({{set_feature{"debian", "supported-rpc.qubes.WaitForRunningSystem", "1"},
            set_feature{"debian", "supported-rpc.qubes.WaitForSession", "1"}}});
  EXPECT_EQ(refused_feature("dvm", "preload-dispvm-max", "2"), errc::none);
  EXPECT_EQ(refused_feature("dvm", "preload-dispvm-max", ""), errc::none);
  EXPECT_EQ(refused_feature("dvm", "preload-dispvm-max", "-2"), errc::value);
  EXPECT_EQ(refused_feature("debian", "preload-dispvm-max", "whatever"), errc::none);
}

TEST_F(plans, the_limit_of_the_host_is_asked_of_the_default_template) {
  auto x = feature("dom0", "preload-dispvm-max", "2");
  expect_heard(x, errc::value, "dvm!domain-feature-pre-set:preload-dispvm-max value=2");
  EXPECT_EQ(x.before.size(), 2U);
  at.make({{reset_property{"", "default_dispvm"}}});
  EXPECT_EQ(refused_feature("dom0", "preload-dispvm-max", "2"), errc::none);
}

TEST_F(plans, delays_and_thresholds_of_preloading_are_numbers) {
  for (auto good : {"", "1.5", "-1", "3"})
    EXPECT_EQ(refused_feature("work", "preload-dispvm-delay", good), errc::none) << good;
  for (auto bad : {"x", "1.5x", "nan", "inf", " "})
    EXPECT_EQ(refused_feature("work", "preload-dispvm-delay", bad), errc::value) << bad;
  EXPECT_EQ(refused_feature("dom0", "preload-dispvm-threshold", "abc"), errc::value);
  EXPECT_EQ(refused_feature("dom0", "preload-dispvm-threshold", "100"), errc::none);
  EXPECT_EQ(refused_feature("work", "preload-dispvm-threshold", "abc"), errc::none);
}

TEST_F(plans, the_active_boot_mode_is_announced_unless_one_was_chosen) {
  EXPECT_THAT(events_of(feature("work", "boot-mode.active", "safe").after),
              ElementsAre("work!property-reset:bootmode",
                          "work!domain-feature-set:boot-mode.active value=safe"));
  at.make({{set_property{"work", "bootmode", "safe"}}});
  EXPECT_EQ(feature("work", "boot-mode.active", "safe").after.size(), 1U);
  EXPECT_EQ(feature("dom0", "boot-mode.active", "safe").after.size(), 1U);
}

TEST_F(plans, a_templates_boot_mode_is_announced_to_children_twice) {
  EXPECT_THAT(events_of(feature("fedora", "boot-mode.appvm-default", "safe").after),
              ElementsAre("vault!property-reset:bootmode",
                          "fedora!property-reset:appvm_default_bootmode",
                          "vault!property-reset:bootmode",
                          "fedora!domain-feature-set:boot-mode.appvm-default value=safe"));
}

TEST_F(plans, the_memory_service_of_old_is_maxmem_today) {
  auto off = feature("work", "service.meminfo-writer", "");
  EXPECT_EQ(lines(off), "work: maxmem = 0 (was default)\n");
  EXPECT_EQ(events_of(off.after.front()),
            "work!property-pre-set:maxmem newvalue=0 oldvalue="
                + to_event_text(*read({at.view(), &at["work"]}, "maxmem")));
  at.make(off.what);
  auto on = feature("work", "service.meminfo-writer", "1");
  EXPECT_EQ(lines(on), "work: maxmem = default (was 0)\n");
  EXPECT_EQ(events_of(on.after.back()), "work!domain-feature-set:service.meminfo-writer value=1");
  at.live("work", power::running);
  EXPECT_EQ(refused_feature("work", "service.meminfo-writer", "1"), errc::none);
}

// -- tags -------------------------------------------------------------------------------------

TEST_F(plans, a_tag_is_told_when_it_is_new) {
  EXPECT_THAT(events_of(plan_add_tag(at.view(), at["work"], "t").after),
              ElementsAre("work!domain-tag-add:t"));
  auto known = plan_add_tag(at.view(), at["work"], "guivm-dom0");
  EXPECT_EQ(code(known), errc::none);
  EXPECT_TRUE(known.what.empty());
  EXPECT_THAT(known.after, IsEmpty());
}

TEST_F(plans, tags_that_are_bad_or_missing_are_refused_quietly) {
  expect_quiet(plan_add_tag(at.view(), at["work"], ""), errc::invalid_tag);
  expect_quiet(plan_add_tag(at.view(), at["work"], "a.b"), errc::invalid_tag);
  expect_quiet(plan_remove_tag(at.view(), at["work"], "a b"), errc::invalid_tag);
  expect_quiet(plan_remove_tag(at.view(), at["work"], "t"), errc::tag_not_found);
}

TEST_F(plans, a_creator_gives_tags_and_a_gui_domain) {
  at.make({{set_feature{"vault", "tag-created-vm-with", "one  two"},
            set_feature{"vault", "set-created-guivm", "alone"}}});
  auto x = plan_add_tag(at.view(), at["work"], "created-by-vault");
  EXPECT_THAT(events_of(x.after),
              ElementsAre("work!domain-tag-add:one", "work!domain-tag-add:two",
                          "work!property-pre-set:guivm newvalue=alone oldvalue=dom0",
                          "work!domain-tag-delete:guivm-dom0", "work!domain-tag-add:guivm-alone",
                          "work!property-set:guivm newvalue=alone oldvalue=dom0",
                          "work!domain-tag-add:created-by-vault"));
  at.make(x.what);
  EXPECT_THAT(at["work"].tags,
              ElementsAre("audiovm-dom0", "created-by-vault", "guivm-alone", "one", "two"));
}

TEST_F(plans, a_creator_that_does_not_exist_is_refused_and_no_tag_stays) {
  expect_quiet(plan_add_tag(at.view(), at["work"], "created-by-nobody"), errc::value);
  EXPECT_EQ(code(plan_add_tag(at.view(), at["far"], "created-by-nobody")), errc::none);
}

TEST_F(plans, a_creator_that_gives_nonsense_is_refused) {
  at.make({{set_feature{"vault", "tag-created-vm-with", "a.b"}}});
  expect_quiet(plan_add_tag(at.view(), at["work"], "created-by-vault"), errc::invalid_tag);
  at.make({{remove_feature{"vault", "tag-created-vm-with"},
            set_feature{"vault", "set-created-guivm", "nobody"}}});
  expect_quiet(plan_add_tag(at.view(), at["work"], "created-by-vault"), errc::property_value);
}

// -- labels -----------------------------------------------------------------------------------

TEST_F(plans, labels_get_the_next_index_and_a_trimmed_color) {
  auto x = plan_create_label(at.view(), "pink", "0xABcdef\n");
  EXPECT_EQ(lines(x), "label pink created, index 9, color 0xABcdef\n");
  EXPECT_THAT(x.after, IsEmpty());
  at.make(x.what);
  EXPECT_EQ(lines(plan_create_label(at.view(), "mauve", "0x000000")),
            "label mauve created, index 10, color 0x000000\n");
}

TEST_F(plans, bad_labels_are_refused) {
  auto create = [&](std::string_view name, std::string_view color) {
    return code(plan_create_label(at.view(), name, color));
  };
  EXPECT_EQ(create("12", "0x000000"), errc::invalid_label);
  EXPECT_EQ(create("a b", "0x000000"), errc::invalid_label);
  EXPECT_EQ(create("red", "0x000000"), errc::label_in_use);
  for (auto color : {"", "000000", "0x12345", "0x1234567", "0xGGGGGG", "\xff", "#123456"})
    EXPECT_EQ(create("pink", color), errc::invalid_label_value) << color;
}

TEST_F(plans, labels_in_use_and_built_in_ones_stay) {
  auto remove = [&](std::string_view name) { return code(plan_remove_label(at.view(), name)); };
  EXPECT_EQ(remove("pink"), errc::label_not_found);
  EXPECT_EQ(remove("a b"), errc::invalid_label);
  EXPECT_EQ(remove("blue"), errc::protocol);
  at.make({{add_label{{9, "0x112233", "pink"}}, set_property{"work", "label", "pink"}}});
  EXPECT_EQ(remove("pink"), errc::label_in_use);
  at.make({{set_property{"work", "label", "red"}}});
  EXPECT_EQ(remove("pink"), errc::none);
  EXPECT_EQ(remove("9"), errc::none);
}
