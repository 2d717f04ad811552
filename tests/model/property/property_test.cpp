#include "tests/model/sample.hpp"

#include "model/base/literal.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

using namespace qubes;
using namespace qubes::model;

namespace {

constexpr auto holders = {app_vm,  template_class, standalone_vm, admin_vm,
                          disp_vm, remote_vm,      global};

holder kind_of(const subject& who) {
  return who.owner ? row(who.owner->type).bit : global;
}

const property& row_of(const subject& who, std::string_view name) {
  return *find_property(kind_of(who), name);
}

std::string shown(const subject& who, std::string_view name) {
  return describe(who, row_of(who, name));
}

std::string fallback(const subject& who, std::string_view name) {
  return describe_default(who, row_of(who, name));
}

/// The text of the value, or the class of the refusal.
std::string parsed(const subject& who, std::string_view name, std::string_view text) {
  auto x = parse_property(who, row_of(who, name), text);
  return x ? to_event_text(*x) : std::string{wire_name(x.error().code)};
}

std::string loaded(const subject& who, std::string_view name, std::string_view text) {
  auto x = load_property(who, row_of(who, name), text);
  return x ? to_event_text(*x) : std::string{wire_name(x.error().code)};
}

errc guarded(const subject& who, std::string_view name, const value& next) {
  auto x = row_of(who, name).guard(who, next);
  return x ? errc::none : x.error().code;
}

constexpr auto bad_value = "QubesValueError";
constexpr auto bad_property_value = "QubesPropertyValueError";
constexpr auto no_property = "QubesNoSuchPropertyError";

std::string holder_name(holder who) {
  for (auto& x : klass_rows)
    if (x.bit == who)
      return std::string{x.name};
  return "app";
}

} // namespace

// -- the table ------------------------------------------------------------------------------------

TEST(property_table, gives_every_class_its_number_of_properties) {
  EXPECT_EQ(properties_of(app_vm).size(), 48U);
  EXPECT_EQ(properties_of(template_class).size(), 47U);
  EXPECT_EQ(properties_of(standalone_vm).size(), 47U);
  EXPECT_EQ(properties_of(admin_vm).size(), 12U);
  EXPECT_EQ(properties_of(disp_vm).size(), 50U);
  EXPECT_EQ(properties_of(remote_vm).size(), 10U);
  EXPECT_EQ(properties_of(global).size(), 20U);
}

TEST(property_table, lists_by_stage_then_by_name) {
  auto names = std::vector<std::string_view>{};
  for (auto x : properties_of(admin_vm))
    names.push_back(x->name);
  EXPECT_EQ(names, (std::vector<std::string_view>{
                       "devices_denied", "icon", "include_in_backups", "keyboard_layout", "klass",
                       "label", "maxmem", "name", "qid", "updateable", "uuid", "default_dispvm"}));
  for (auto who : holders)
    for (auto i = std::size_t{1}; i < properties_of(who).size(); ++i) {
      auto& a = *properties_of(who)[i - 1];
      auto& b = *properties_of(who)[i];
      EXPECT_TRUE(std::tie(a.stage, a.name) < std::tie(b.stage, b.name)) << b.name;
    }
}

TEST(property_table, finds_what_it_lists_and_nothing_else) {
  for (auto who : holders) {
    for (auto x : properties_of(who)) {
      EXPECT_EQ(find_property(who, x->name), x);
      EXPECT_TRUE(x->holders & who);
    }
    for (auto stranger : {"", "a", "nosuch", "zzz", "memor", "memoryy", "Memory"})
      EXPECT_EQ(find_property(who, stranger), nullptr) << stranger;
  }
  EXPECT_EQ(find_property(admin_vm, "netvm"), nullptr);
  EXPECT_EQ(find_property(remote_vm, "memory"), nullptr);
}

TEST(property_table, is_complete_in_every_row) {
  for (auto& x : property_table()) {
    EXPECT_TRUE(x.fallback) << x.name;
    EXPECT_TRUE(x.check) << x.name;
    EXPECT_TRUE(x.help.ends_with(".")) << x.name;
    EXPECT_TRUE(is_ascii(x.help)) << x.name;
    EXPECT_EQ(x.help.find('\n'), x.help.npos) << x.name;
  }
}

TEST(property_table, is_the_one_of_the_specification) {
  auto in = std::ifstream{QVMD_SOURCE_DIR "/docs/spec/properties.tsv"};
  auto line = std::string{};
  std::getline(in, line); // the titles
  auto rows = std::set<std::pair<std::string, std::string>>{};
  while (std::getline(in, line)) {
    auto cells = std::vector<std::string>{};
    auto stream = std::istringstream{line};
    for (auto cell = std::string{}; std::getline(stream, cell, '\t');)
      cells.push_back(cell);
    ASSERT_GE(cells.size(), 12U) << line;
    auto title = cells[0] + "." + cells[1];
    auto type = find_klass(cells[0]);
    auto found = find_property(type ? row(*type).bit : global, cells[1]);
    ASSERT_TRUE(found) << title;
    EXPECT_EQ(wire_name(found->type), cells[3]) << title;
    EXPECT_EQ(std::to_string(found->stage), cells[7]) << title;
    EXPECT_EQ(found->saved, cells[9] == "when set") << title;
    EXPECT_EQ(found->cloned, cells[10] == "yes") << title;
    EXPECT_EQ(found->when == settable::once, cells[11].starts_with("yes")) << title;
    EXPECT_EQ(found->when == settable::never, cells[6].starts_with("read-only")) << title;
    rows.emplace(cells[0], cells[1]);
  }
  EXPECT_EQ(rows.size(), 234U);
  for (auto who : holders)
    for (auto x : properties_of(who))
      EXPECT_TRUE(rows.count({holder_name(who), std::string{x->name}})) << x->name;
}

// -- literals -------------------------------------------------------------------------------------

TEST(literal, integers_may_have_blanks_a_sign_and_underscores_between_digits) {
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer(" 5"), 5);
  EXPECT_EQ(parse_integer("5\n"), 5);
  EXPECT_EQ(parse_integer("007"), 7);
  EXPECT_EQ(parse_integer("+1_0"), 10);
  EXPECT_EQ(parse_integer("-1_000"), -1000);
  for (auto bad :
       {"", " ", "-", "+", "1.5", "abc", "0x10", "1__0", "_1", "1_", "1 0", "- 1", "--1", "1e3"})
    EXPECT_FALSE(is_integer(bad)) << bad;
}

TEST(literal, integers_end_at_two_to_the_fortieth) {
  EXPECT_EQ(parse_integer("1099511627776"), integer_limit);
  EXPECT_EQ(parse_integer("-1099511627776"), -integer_limit);
  EXPECT_EQ(parse_integer("1099511627777"), std::nullopt);
  EXPECT_EQ(parse_integer(std::string(10000, '9')), std::nullopt);
  EXPECT_TRUE(is_integer(std::string(10000, '9')));
  EXPECT_EQ(parse_integer(std::string(10000, '0') + "1"), 1);
}

TEST(literal, truth_has_four_words_each_in_any_case) {
  for (auto yes : {"1", "yes", "True", "ON"})
    EXPECT_EQ(parse_boolean(yes), true) << yes;
  for (auto no : {"0", "No", "FALSE", "off"})
    EXPECT_EQ(parse_boolean(no), false) << no;
  for (auto bad : {"", " True", "2", "none", "y"})
    EXPECT_EQ(parse_boolean(bad), std::nullopt) << bad;
}

TEST(literal, uuids_are_made_canonical) {
  auto text = "0000000a-0000-4000-8000-00000000000a";
  EXPECT_EQ(parse_uuid(text), text);
  EXPECT_EQ(parse_uuid("{0000000A-0000-4000-8000-00000000000A}"), text);
  EXPECT_EQ(parse_uuid("0000000a00004000800000000000000a"), text);
  EXPECT_EQ(parse_uuid("urn:uuid:0000000a-0000-4000-8000-00000000000a"), text);
  EXPECT_EQ(parse_uuid("0000000g-0000-4000-8000-00000000000a"), std::nullopt);
  EXPECT_EQ(parse_uuid("1"), std::nullopt);
}

// -- reading --------------------------------------------------------------------------------------

TEST(property, reads_what_is_stored_else_the_default) {
  auto s = tests::sample{};
  EXPECT_EQ(shown(s.who("work"), "memory"), "default=True type=int 400");
  s.set("work", "memory", std::int64_t{400}); // equal to the default is still not default
  EXPECT_EQ(shown(s.who("work"), "memory"), "default=False type=int 400");
  EXPECT_TRUE(at_default(s.who("work"), "vcpus"));
  EXPECT_FALSE(at_default(s.who("work"), "memory"));
}

TEST(property, without_default_reads_as_unset) {
  auto s = tests::sample{};
  s.edit("work", [](auto& x) { x.properties.erase("label"); });
  EXPECT_EQ(read(s.who("work"), "label"), std::nullopt);
  EXPECT_EQ(shown(s.who("work"), "label"), "default=True type=label ");
  EXPECT_EQ(fallback(s.who("work"), "label"), "");
  EXPECT_EQ(shown(s.who("work"), "icon"), "default=True type=str ");
}

TEST(property, none_is_empty_on_the_wire) {
  auto s = tests::sample{};
  EXPECT_EQ(shown(s.who("sys-net"), "netvm"), "default=False type=vm ");
  EXPECT_EQ(fallback(s.who("debian"), "netvm"), "type=vm ");
  EXPECT_EQ(fallback(s.who("work"), "stubdom_mem"), "type=int ");
}

TEST(property, shortcuts_read_wrong_names_as_empty) {
  auto s = tests::sample{};
  EXPECT_EQ(read_text(s.who("dom0"), "netvm"), "");
  EXPECT_EQ(read_int(s.who("dom0"), "memory"), 0);
  EXPECT_FALSE(read_bool(s.who("far"), "provides_network"));
  EXPECT_EQ(read_domain(s.who("far"), "netvm"), nullptr);
  EXPECT_EQ(read_domain(s.who("work"), "template"), &s["debian"]);
}

TEST(property, unknown_name_suggests_the_nearest) {
  auto x = no_such_property(app_vm, "work", "memroy");
  EXPECT_EQ(x.code, errc::no_such_property);
  EXPECT_NE(x.text.find("work"), std::string::npos);
  EXPECT_NE(x.hint.find("'memory'"), std::string::npos);
  EXPECT_LT(no_such_property(global, "", std::string(60000, 'x')).message().size(), 300U);
}

// -- defaults -------------------------------------------------------------------------------------

TEST(property_default, is_taken_over_along_the_templates) {
  auto s = tests::sample{};
  s.set("debian", "memory", std::int64_t{500});
  s.set("debian", "default_user", "me");
  s.set("dvm", "vcpus", std::int64_t{3});
  EXPECT_EQ(read_int(s.who("work"), "memory"), 500);
  EXPECT_EQ(read_int(s.who("disp1"), "memory"), 500);
  EXPECT_EQ(read_text(s.who("disp1"), "default_user"), "me");
  EXPECT_EQ(read_int(s.who("disp1"), "vcpus"), 3);
  EXPECT_EQ(read_int(s.who("alone"), "memory"), 400);
}

TEST(property_default, of_timeouts_kernel_and_management_comes_from_the_host_in_the_end) {
  auto s = tests::sample{};
  s.system.globals["default_qrexec_timeout"] = std::int64_t{7};
  s.system.globals["management_dispvm"] = "dvm";
  EXPECT_EQ(read_int(s.who("disp1"), "qrexec_timeout"), 7);
  EXPECT_EQ(read_int(s.who("alone"), "shutdown_timeout"), 60);
  EXPECT_EQ(read_text(s.who("work"), "management_dispvm"), "dvm");
  EXPECT_EQ(read_text(s.who("work"), "kernel"), "6.1");
  s.set("debian", "kernel", "6.6");
  EXPECT_EQ(read_text(s.who("work"), "kernel"), "6.6");
  s.system.globals.erase("default_kernel");
  EXPECT_EQ(fallback(s.who("alone"), "kernel"), "");
}

TEST(property_default, of_virt_mode_is_hvm_with_pci_devices) {
  auto s = tests::sample{};
  EXPECT_EQ(read_text(s.who("work"), "virt_mode"), "pvh");
  s.set("debian", "virt_mode", "pv");
  EXPECT_EQ(read_text(s.who("work"), "virt_mode"), "pv");
  s.assign_pci("work");
  EXPECT_EQ(read_text(s.who("work"), "virt_mode"), "hvm");
}

TEST(property_default, of_maxmem_is_the_templates_else_ten_times_memory_on_linux) {
  auto s = tests::sample{};
  EXPECT_EQ(read_int(s.who("alone"), "maxmem"), 4000);
  s.set("alone", "memory", std::int64_t{300});
  EXPECT_EQ(read_int(s.who("alone"), "maxmem"), 4000);
  s.feature("alone", "os", "Linux");
  EXPECT_EQ(read_int(s.who("alone"), "maxmem"), 3000);
  s.set("alone", "memory", std::int64_t{3000});
  EXPECT_EQ(read_int(s.who("alone"), "maxmem"), 8192); // half of the host
  s.set("debian", "maxmem", std::int64_t{99999});
  EXPECT_EQ(read_int(s.who("disp1"), "maxmem"), 99999);
}

TEST(property_default, of_maxmem_is_0_when_memory_cannot_move) {
  auto s = tests::sample{};
  s.assign_pci("work");
  EXPECT_EQ(read_int(s.who("work"), "maxmem"), 0);
  s.set("alone", "virt_mode", "hvm");
  EXPECT_EQ(read_int(s.who("alone"), "maxmem"), 0);
  s.feature("alone", "qrexec", "1");
  EXPECT_EQ(read_int(s.who("alone"), "maxmem"), 4000);
  s.feature("alone", "supported-service.cups", "1");
  EXPECT_EQ(read_int(s.who("alone"), "maxmem"), 0);
  s.feature("alone", "supported-service.meminfo-writer", "1");
  EXPECT_EQ(read_int(s.who("alone"), "maxmem"), 4000);
}

TEST(property_default, of_kernel_options_depends_on_kernel_and_devices) {
  auto s = tests::sample{};
  EXPECT_EQ(read_text(s.who("work"), "kernelopts"), "swiotlb=2048");
  s.set("alone", "kernel", "6.6");
  EXPECT_EQ(read_text(s.who("alone"), "kernelopts"), "quiet");
  s.assign_pci("alone");
  EXPECT_EQ(read_text(s.who("alone"), "kernelopts"), "iommu=soft");
  s.feature("dom0", "suspend-s0ix", "1");
  EXPECT_EQ(read_text(s.who("alone"), "kernelopts"), "iommu=soft qubes_exp_pm_use_suspend=1");
  s.set("alone", "kernel", "");
  EXPECT_EQ(read_text(s.who("alone"), "kernelopts"), "");
  s.set("debian", "kernelopts", "from the template");
  EXPECT_EQ(read_text(s.who("disp1"), "kernelopts"), "from the template");
}

TEST(property_default, of_boot_mode_needs_a_mode_that_exists) {
  auto s = tests::sample{};
  EXPECT_EQ(read_text(s.who("work"), "bootmode"), "default");
  s.feature("work", "boot-mode.active", "safe");
  EXPECT_EQ(read_text(s.who("work"), "bootmode"), "default");
  s.feature("debian", "boot-mode.kernelopts.safe", "single");
  EXPECT_EQ(read_text(s.who("work"), "bootmode"), "safe");
  s.feature("debian", "boot-mode.kernelopts.fast", "quiet");
  s.feature("debian", "boot-mode.appvm-default", "fast");
  EXPECT_EQ(read_text(s.who("debian"), "appvm_default_bootmode"), "fast");
  EXPECT_EQ(read_text(s.who("work"), "bootmode"), "safe");
  EXPECT_EQ(read_text(s.who("disp1"), "bootmode"), "fast");
  s.feature("work", "boot-mode.active", "default");
  EXPECT_EQ(read_text(s.who("work"), "bootmode"), "default");
  EXPECT_EQ(read_text(s.who("debian"), "bootmode"), "default");
}

TEST(property_default, of_addresses_follows_the_network) {
  auto s = tests::sample{};
  EXPECT_EQ(read_text(s.who("work"), "ip"), "10.137.0.4");
  EXPECT_EQ(read_text(s.who("disp1"), "ip"), "10.138.4.218");
  EXPECT_EQ(read_text(s.who("debian"), "ip"), "");
  EXPECT_EQ(read_text(s.who("sys-net"), "ip"), "10.137.0.2");
  EXPECT_EQ(read_text(s.who("sys-net"), "gateway"), "10.137.0.2");
  EXPECT_EQ(read_text(s.who("work"), "gateway"), "");
  EXPECT_EQ(read_text(s.who("work"), "visible_gateway"), "10.137.0.3");
  EXPECT_EQ(read_text(s.who("sys-net"), "visible_gateway"), "");
  EXPECT_EQ(read_text(s.who("work"), "visible_netmask"), "255.255.255.255");
  EXPECT_EQ(read_text(s.who("sys-net"), "visible_netmask"), "");
  EXPECT_EQ(read_text(s.who("sys-net"), "dns"), "10.139.1.1 10.139.1.2");
  EXPECT_EQ(read_text(s.who("debian"), "dns"), "");
  EXPECT_EQ(read_text(s.who("work"), "mac"), "00:16:3e:5e:6c:00");
}

TEST(property_default, of_ipv6_appears_where_the_feature_reaches) {
  auto s = tests::sample{};
  EXPECT_EQ(read_text(s.who("work"), "ip6"), "");
  s.feature("sys-net", "ipv6", "1");
  EXPECT_EQ(read_text(s.who("sys-net"), "ip6"), "fd09:24ef:4179::a89:2");
  EXPECT_EQ(read_text(s.who("sys-net"), "gateway6"), "fd09:24ef:4179::a89:2");
  EXPECT_EQ(read_text(s.who("sys-net"), "visible_gateway6"), "");
  EXPECT_EQ(read_text(s.who("work"), "ip6"), "fd09:24ef:4179::a89:4");
  EXPECT_EQ(read_text(s.who("work"), "visible_ip6"), "fd09:24ef:4179::a89:4");
  EXPECT_EQ(read_text(s.who("work"), "visible_gateway6"), "fd09:24ef:4179::a89:3");
  EXPECT_EQ(read_text(s.who("disp1"), "ip6"), "fd09:24ef:4179::a8a:4d2");
  s.feature("sys-firewall", "ipv6", "");
  EXPECT_EQ(read_text(s.who("work"), "ip6"), "");
}

TEST(property_default, of_addresses_seen_inside_may_be_faked) {
  auto s = tests::sample{};
  s.feature("dvm", "net.fake-ip", "192.168.1.128");
  s.feature("dvm", "net.fake-gateway", "192.168.1.1");
  s.feature("dvm", "net.fake-netmask", "255.255.255.0");
  EXPECT_EQ(read_text(s.who("disp1"), "visible_ip"), "192.168.1.128");
  EXPECT_EQ(read_text(s.who("disp1"), "visible_gateway"), "192.168.1.1");
  EXPECT_EQ(read_text(s.who("disp1"), "visible_netmask"), "255.255.255.0");
  EXPECT_EQ(read_text(s.who("disp1"), "ip"), "10.138.4.218");
}

TEST(property_default, of_icon_shows_the_kind_of_domain) {
  auto s = tests::sample{};
  EXPECT_EQ(read_text(s.who("work"), "icon"), "appvm-red");
  EXPECT_EQ(read_text(s.who("debian"), "icon"), "templatevm-red");
  EXPECT_EQ(read_text(s.who("dvm"), "icon"), "templatevm-red");
  EXPECT_EQ(read_text(s.who("disp1"), "icon"), "dispvm-red");
  EXPECT_EQ(read_text(s.who("alone"), "icon"), "standalonevm-red");
  EXPECT_EQ(read_text(s.who("far"), "icon"), "remotevm-red");
  EXPECT_EQ(read_text(s.who("dom0"), "icon"), "adminvm-black");
  s.feature("work", "servicevm", "1");
  EXPECT_EQ(read_text(s.who("work"), "icon"), "servicevm-red");
}

TEST(property_default, of_the_present_life_comes_from_live_facts) {
  auto s = tests::sample{};
  EXPECT_EQ(shown(s.who("work"), "xid"), "default=True type=int -1");
  EXPECT_EQ(shown(s.who("work"), "start_time"), "default=True type=str ");
  s.run("work");
  EXPECT_EQ(shown(s.who("work"), "xid"), "default=True type=int 104");
  EXPECT_EQ(shown(s.who("work"), "start_time"), "default=True type=str 1700000000.5");
  auto facts = live{};
  facts.started_us = 1700000000000000;
  s.board->write(4, facts);
  EXPECT_EQ(read_text(s.who("work"), "start_time"), "1700000000.0");
  facts.started_us = 1700000000000123;
  s.board->write(4, facts);
  EXPECT_EQ(read_text(s.who("work"), "start_time"), "1700000000.000123");
}

TEST(property_default, of_disposables_has_rules_of_its_own) {
  auto s = tests::sample{};
  EXPECT_EQ(shown(s.who("disp1"), "default_dispvm"), "default=True type=vm dvm");
  EXPECT_EQ(shown(s.who("disp1"), "include_in_backups"), "default=True type=bool True");
  s.set("disp1", "auto_cleanup", true);
  EXPECT_EQ(shown(s.who("disp1"), "include_in_backups"), "default=True type=bool False");
  EXPECT_FALSE(read_bool(s.who("disp1"), "is_preload"));
  s.feature("dvm", "preload-dispvm", "disp1");
  EXPECT_TRUE(read_bool(s.who("disp1"), "is_preload"));
}

TEST(property_default, of_keyboard_layout_follows_the_gui_domain_and_ends_in_a_loop) {
  auto s = tests::sample{};
  EXPECT_EQ(read_text(s.who("work"), "keyboard_layout"), "us++");
  s.set("dom0", "keyboard_layout", "de++");
  EXPECT_EQ(read_text(s.who("work"), "keyboard_layout"), "de++");
  s.set("work", "guivm", none{});
  EXPECT_EQ(read_text(s.who("work"), "keyboard_layout"), "us++");
  s.set("work", "guivm", "alone");
  s.set("alone", "guivm", "work");
  EXPECT_EQ(read_text(s.who("work"), "keyboard_layout"), "us++");
}

TEST(property_default, of_the_pool_is_the_one_named_default_or_the_state_directory) {
  auto s = tests::sample{};
  EXPECT_EQ(shown(s.who(""), "default_pool"), "default=True type=str varlibqubes");
  EXPECT_EQ(shown(s.who(""), "default_pool_root"), "default=True type=str varlibqubes");
  s.system.pools.push_back({"default", "lvm_thin", {{"name", "default"}, {"driver", "lvm_thin"}}});
  EXPECT_EQ(fallback(s.who(""), "default_pool"), "type=str default");
  s.system.pools.clear();
  EXPECT_EQ(fallback(s.who(""), "default_pool"), "");
  s.system.globals["default_pool"] = "x";
  EXPECT_EQ(fallback(s.who(""), "default_pool_root"), "type=str x");
}

TEST(property_default, of_the_host_comes_from_the_machine) {
  auto s = tests::sample{};
  EXPECT_EQ(shown(s.who(""), "maxmem"), "default=True type=int 16384");
  EXPECT_EQ(shown(s.who(""), "no_cpus"), "default=True type=int 8");
  EXPECT_EQ(shown(s.who("dom0"), "maxmem"), "default=True type=int 4096");
}

// -- texts from clients ---------------------------------------------------------------------------

TEST(property_text, is_made_canonical) {
  auto s = tests::sample{};
  auto work = s.who("work");
  EXPECT_EQ(parsed(work, "memory", " 1_000 "), "1000");
  EXPECT_EQ(parsed(work, "debug", "oN"), "True");
  EXPECT_EQ(parsed(work, "mac", "00:16:3E:00:00:0A"), "00:16:3e:00:00:0a");
  EXPECT_EQ(parsed(work, "virt_mode", "PVH"), "pvh");
  EXPECT_EQ(parsed(work, "ip6", "FD09:0:0::1"), "fd09::1");
  EXPECT_EQ(parsed(work, "devices_denied", "u03****p02****u03****"), "p02****u03****");
  EXPECT_EQ(parsed(work, "netvm", ""), "None");
  EXPECT_EQ(parsed(work, "netvm", "sys-net"), "sys-net");
  EXPECT_EQ(parsed(work, "default_user", ""), "");
}

TEST(property_text, of_a_label_may_be_name_or_index) {
  auto s = tests::sample{};
  s.system.labels.push_back({9, "0x00ffcc", "teal"});
  for (auto text : {"teal", "9", " 9", "009", "label-9"})
    EXPECT_EQ(parsed(s.who("work"), "label", text), "teal") << text;
  for (auto text : {"", "0", "-1", "10", "label-", "label-x", "Red", "99999999999999999999"})
    EXPECT_EQ(parsed(s.who("work"), "label", text), "QubesLabelNotFoundError") << text;
  EXPECT_EQ(parsed(s.who("work"), "label", "red\x01"), bad_value);
}

TEST(property_text, that_is_not_ascii_is_refused_first) {
  auto s = tests::sample{};
  for (auto who : {"work", "dom0", "far", ""})
    for (auto x : properties_of(kind_of(s.who(who))))
      EXPECT_EQ(parsed(s.who(who), x->name, "\xc3\xa4"), bad_value) << x->name;
}

TEST(property_text, of_computed_properties_is_refused_after_its_syntax) {
  auto s = tests::sample{};
  EXPECT_EQ(parsed(s.who("work"), "xid", "abc"), bad_value);
  EXPECT_EQ(parsed(s.who("work"), "xid", "1"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "xid", "99999999999999999999"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "icon", ""), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "updateable", "maybe"), bad_value);
  EXPECT_EQ(parsed(s.who("dom0"), "name", "new"), bad_property_value);
}

TEST(property_text, of_identity_is_refused_once_it_is_set) {
  auto s = tests::sample{};
  EXPECT_EQ(parsed(s.who("work"), "name", "new"), no_property);
  EXPECT_EQ(parsed(s.who("work"), "qid", "abc"), bad_value);
  EXPECT_EQ(parsed(s.who("work"), "qid", "50"), no_property);
  EXPECT_EQ(parsed(s.who("work"), "uuid", "1"), bad_value);
  EXPECT_EQ(parsed(s.who("work"), "uuid", "0000000a-0000-4000-8000-00000000000a"),
            "0000000a-0000-4000-8000-00000000000a");
}

TEST(property_text, outside_the_range_is_refused_with_the_range) {
  auto s = tests::sample{};
  EXPECT_EQ(parsed(s.who("work"), "memory", "0"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "maxmem", "0"), "0");
  EXPECT_EQ(parsed(s.who("work"), "maxmem", "-1"), bad_property_value);
  EXPECT_EQ(parsed(s.who(""), "stats_interval", "-1"), "-1");
}

TEST(property_text, a_number_too_large_to_compute_with_is_kept_and_read_as_the_limit) {
  auto s = tests::sample{};
  EXPECT_EQ(parsed(s.who("work"), "memory", " +99_999999999999999999"), "99999999999999999999");
  EXPECT_EQ(parsed(s.who("work"), "memory", "-99999999999999999999"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "memory", std::string(41, '9')), bad_value);
  auto work = s["work"];
  work.properties.insert_or_assign("memory", value{"99999999999999999999"});
  EXPECT_EQ(read_int({s.who("work").view, &work}, "memory"), integer_limit);
}

TEST(property_text, of_a_domain_must_name_one_of_a_fitting_class) {
  auto s = tests::sample{};
  EXPECT_EQ(parsed(s.who("work"), "netvm", "no name"), bad_value);
  EXPECT_EQ(parsed(s.who("work"), "netvm", "none"), bad_value);
  EXPECT_EQ(parsed(s.who("work"), "netvm", "nosuchvm"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "netvm", "far"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "template", ""), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "template", "alone"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "template", "debian"), "debian");
  EXPECT_EQ(parsed(s.who("disp1"), "template", "work"), bad_property_value);
  EXPECT_EQ(parsed(s.who("disp1"), "template", "dvm"), "dvm");
  EXPECT_EQ(parsed(s.who("work"), "default_dispvm", "dom0"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "default_dispvm", "dvm"), "dvm");
  EXPECT_EQ(parsed(s.who(""), "management_dispvm", "work"), bad_property_value);
  EXPECT_EQ(parsed(s.who(""), "default_template", "work"), bad_property_value);
  EXPECT_EQ(parsed(s.who("far"), "relayvm", "sys-net"), "sys-net");
}

TEST(property_text, refusal_of_a_mistyped_domain_suggests_the_right_one) {
  auto s = tests::sample{};
  auto x = parse_property(s.who("work"), row_of(s.who("work"), "netvm"), "sys-firewal");
  ASSERT_FALSE(x);
  EXPECT_NE(x.error().text.find("'sys-firewal'"), std::string::npos);
  EXPECT_NE(x.error().hint.find("'sys-firewall'"), std::string::npos);
}

TEST(property_text, of_pvh_is_refused_with_pci_devices) {
  auto s = tests::sample{};
  s.assign_pci("work");
  EXPECT_EQ(parsed(s.who("work"), "virt_mode", "pvh"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "virt_mode", "hvm"), "hvm");
}

TEST(property_text, has_the_form_its_property_wants) {
  auto s = tests::sample{};
  EXPECT_EQ(parsed(s.who("work"), "kernelopts", std::string(512, 'x')), std::string(512, 'x'));
  EXPECT_EQ(parsed(s.who("work"), "kernelopts", std::string(513, 'x')), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "kernel", "a/b"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "keyboard_layout", "pl+dvorak+"), "pl+dvorak+");
  EXPECT_EQ(parsed(s.who("work"), "keyboard_layout", "us"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "keyboard_layout", "a1++"), bad_property_value);
  EXPECT_EQ(parsed(s.who("work"), "devices_denied", "u03"), bad_value);
  EXPECT_EQ(parsed(s.who("work"), "devices_denied", "U030000"), bad_property_value);
  EXPECT_EQ(parsed(s.who(""), "default_pool", "nopool"), bad_property_value);
}

TEST(property_text, survives_its_own_printing) {
  auto s = tests::sample{};
  for (auto name : {"memory", "debug", "label", "netvm", "mac", "virt_mode", "kernel", "ip",
                    "keyboard_layout", "template", "default_user", "maxmem"})
    EXPECT_EQ(parsed(s.who("work"), name, read_text(s.who("work"), name)),
              read_text(s.who("work"), name))
        << name;
}

// -- texts from the file --------------------------------------------------------------------------

TEST(property_in_file, may_be_empty_where_that_means_something) {
  auto s = tests::sample{};
  EXPECT_EQ(loaded(s.who("work"), "kernel", ""), "");
  EXPECT_EQ(loaded(s.who("work"), "default_user", ""), "");
  EXPECT_EQ(loaded(s.who("work"), "debug", ""), "False");
  EXPECT_EQ(loaded(s.who("work"), "netvm", ""), "None");
  EXPECT_EQ(loaded(s.who("work"), "memory", ""), bad_value);
  EXPECT_EQ(loaded(s.who("work"), "label", ""), "QubesLabelNotFoundError");
}

TEST(property_in_file, may_name_domains_that_are_not_there_yet) {
  auto s = tests::sample{};
  EXPECT_EQ(loaded(s.who("work"), "netvm", "later"), "later");
  EXPECT_EQ(loaded(s.who(""), "default_dispvm", "later"), "later");
  EXPECT_EQ(loaded(s.who("work"), "netvm", "no name"), bad_value);
}

TEST(property_in_file, does_not_depend_on_the_half_read_owner) {
  auto s = tests::sample{};
  s.assign_pci("work");
  EXPECT_EQ(loaded(s.who("work"), "virt_mode", "pvh"), "pvh");
  EXPECT_EQ(loaded(s.who("work"), "qid", "9"), "9");
  EXPECT_EQ(loaded(s.who("work"), "qid", "10001"), bad_value);
  EXPECT_EQ(loaded(s.who("work"), "xid", "1"), bad_property_value);
}

// -- guards ---------------------------------------------------------------------------------------

TEST(property_guard, netvm_must_provide_network) {
  auto s = tests::sample{};
  EXPECT_EQ(guarded(s.who("work"), "netvm", "sys-net"), errc::none);
  EXPECT_EQ(guarded(s.who("work"), "netvm", none{}), errc::none);
  EXPECT_EQ(guarded(s.who("work"), "netvm", "alone"), errc::value);
  EXPECT_EQ(guarded(s.who("work"), "netvm", "dom0"), errc::value);
}

TEST(property_guard, netvm_must_not_be_behind_the_domain) {
  auto s = tests::sample{};
  EXPECT_EQ(guarded(s.who("sys-net"), "netvm", "sys-net"), errc::value);
  EXPECT_EQ(guarded(s.who("sys-net"), "netvm", "sys-firewall"), errc::value);
  EXPECT_EQ(guarded(s.who("sys-firewall"), "netvm", "sys-net"), errc::none);
}

TEST(property_guard, default_netvm_must_not_be_behind_a_domain_that_takes_it) {
  auto s = tests::sample{};
  EXPECT_EQ(guarded(s.who(""), "default_netvm", "sys-net"), errc::none);
  EXPECT_EQ(guarded(s.who(""), "default_netvm", none{}), errc::none);
  EXPECT_EQ(guarded(s.who(""), "default_netvm", "work"), errc::property_value);
  EXPECT_EQ(guarded(s.who(""), "default_netvm", "debian"), errc::property_value);
  EXPECT_EQ(guarded(s.who(""), "default_netvm", "dom0"), errc::value);
  s.set("alone", "netvm", "work");
  s.set("work", "netvm", none{});
  EXPECT_EQ(guarded(s.who(""), "default_netvm", "alone"), errc::none);
}

TEST(property_guard, provider_with_clients_stays_one) {
  auto s = tests::sample{};
  EXPECT_EQ(guarded(s.who("sys-firewall"), "provides_network", false), errc::value);
  EXPECT_EQ(guarded(s.who("sys-firewall"), "provides_network", true), errc::none);
  EXPECT_EQ(guarded(s.who("work"), "provides_network", false), errc::none);
}

TEST(property_guard, kernel_must_be_installed_with_an_image) {
  auto s = tests::sample{};
  for (auto& [who, name] : {std::pair{"work", "kernel"}, std::pair{"", "default_kernel"}}) {
    EXPECT_EQ(guarded(s.who(who), name, "6.6"), errc::none);
    EXPECT_EQ(guarded(s.who(who), name, ""), errc::none);
    EXPECT_EQ(guarded(s.who(who), name, "9.9"), errc::property_value);
    EXPECT_EQ(guarded(s.who(who), name, "broken"), errc::property_value);
  }
}

TEST(property_guard, disposable_template_in_use_stays_one) {
  auto s = tests::sample{};
  EXPECT_EQ(guarded(s.who("dvm"), "template_for_dispvms", false), errc::vm_in_use);
  EXPECT_EQ(guarded(s.who("dvm"), "template_for_dispvms", true), errc::none);
  s.system.globals.erase("default_dispvm");
  s.feature("dvm", "preload-dispvm", "disp1");
  EXPECT_EQ(guarded(s.who("dvm"), "template_for_dispvms", false), errc::none);
}

TEST(property_guard, template_changes_only_without_running_disposables) {
  auto s = tests::sample{};
  EXPECT_EQ(guarded(s.who("dvm"), "template", "debian"), errc::none);
  s.run("disp1");
  EXPECT_EQ(guarded(s.who("dvm"), "template", "debian"), errc::vm_in_use);
  EXPECT_EQ(guarded(s.who("work"), "template", "debian"), errc::none);
  s.feature("dvm", "preload-dispvm", "disp1");
  EXPECT_EQ(guarded(s.who("dvm"), "template", "debian"), errc::none);
}

TEST(property_guard, maxmem_of_a_running_domain_needs_memory_hotplug) {
  auto s = tests::sample{};
  auto next = value{std::int64_t{2000}};
  EXPECT_EQ(guarded(s.who("work"), "maxmem", next), errc::none);
  s.run("work");
  EXPECT_EQ(guarded(s.who("work"), "maxmem", next), errc::vm_not_halted);
  EXPECT_EQ(guarded(s.who("work"), "maxmem", read(s.who("work"), "maxmem").value()), errc::none);
  s.set("work", "kernel", "6.6");
  EXPECT_EQ(guarded(s.who("work"), "maxmem", next), errc::none);
  s.set("work", "virt_mode", "hvm");
  EXPECT_EQ(guarded(s.who("work"), "maxmem", next), errc::vm_not_halted);
  s.feature("debian", "memory-hotplug", "1");
  EXPECT_EQ(guarded(s.who("work"), "maxmem", next), errc::none);
}
