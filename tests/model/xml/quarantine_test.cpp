// Damaged stores: which domains are still served, what is said about the rest, and that nothing is
// lost.
#include "model/xml/qubes_xml.hpp"

#include "tests/model/canonical.hpp"
#include "tests/model/load.hpp"
#include "tests/model/stores.hpp"

#include "model/change/change.hpp"
#include "model/change/creation.hpp"
#include "model/change/integrity.hpp"
#include "model/change/plan.hpp"
#include "model/change/plan_device.hpp"
#include "model/change/plan_storage.hpp"
#include "model/device/device.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <sstream>
#include <tuple>

namespace {

using namespace qubes::model;
using qubes::tests::load;
using qubes::tests::read_file;
using qubes::tests::store;

const auto good = read_file(std::string{QVMD_SOURCE_DIR} + "/tests/golden/qubes/network.xml");

// -- ways to damage a file ------------------------------------------------------------------------

using damage = std::function<std::string(std::string)>;

damage replace(const std::string& from, const std::string& to) {
  return [=](std::string text) {
    auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return at == std::string::npos ? text : text.replace(at, from.size(), to);
  };
}

std::string element_of(std::string_view name, const std::string& text) {
  auto inside = text.find(fmt::format("<property name=\"name\">{}</property>", name));
  auto begin =
      name == "dom0" ? text.find("<domain id=\"domain-0\"") : text.rfind("<domain ", inside);
  return text.substr(begin, text.find("</domain>", begin) + 9 - begin);
}

/// Replaces text of one domain only.
damage in(const std::string& name, const std::string& from, const std::string& to) {
  return [=](const std::string& text) {
    auto element = element_of(name, text);
    return replace(element, replace(from, to)(element))(text);
  };
}

std::string property(std::string_view name, std::string_view text) {
  return fmt::format("<property name=\"{}\">{}</property>", name, text);
}

damage set(const std::string& domain, std::string_view name, std::string_view from,
           std::string_view to) {
  return in(domain, property(name, from), property(name, to));
}

damage add_property(const std::string& domain, std::string_view name, std::string_view text) {
  return in(domain, "<properties>", "<properties>\n        " + property(name, text));
}

damage without(const std::string& domain, std::string_view name, std::string_view text) {
  return in(domain, property(name, text), "");
}

/// A second domain, made of the first by some change.
damage twin(const std::string& name, const damage& change) {
  return [=](const std::string& text) {
    auto copy = change(element_of(name, text));
    return replace("  </domains>", "    " + copy + "\n  </domains>")(text);
  };
}

damage both(const damage& first, const damage& second) {
  return [=](std::string text) { return second(first(std::move(text))); };
}

const auto other_uuid =
    replace("00000004-0000-4000-8000-000000000004", "00000099-0000-4000-8000-000000000099");
const auto other_qid = replace(property("qid", "4"), property("qid", "99"));
const auto other_disks = [](std::string text) {
  constexpr auto theirs = std::string_view{"vid=\"appvms/work/"};
  for (auto at = text.find(theirs); at != text.npos; at = text.find(theirs))
    text.replace(at, theirs.size(), "vid=\"appvms/play/");
  return text;
};
const auto same_disks = replace(property("name", "work"), property("name", "play"));
const auto other_name = both(same_disks, other_disks);

// -- the table ------------------------------------------------------------------------------------

struct damaged {
  std::string kind;
  damage apply;
  std::vector<std::string> lost; ///< domains that are not served
  std::string record;            ///< name of the record set aside; "" for none
  std::string reason;            ///< part of the finding
  section where = section::domains;
};

void PrintTo(const damaged& x, std::ostream* out) {
  *out << x.kind;
}

const auto no_domain = std::vector<std::string>{};
const auto only_work = std::vector<std::string>{"work"};

std::vector<damaged> domains_set_aside() {
  return {
      // identity
      {"unknown_class", in("work", "AppVM", "FooVM"), only_work, "work", "FooVM"},
      {"missing_class", in("work", " class=\"AppVM\"", ""), only_work, "work", "no class"},
      {"name_that_leaves_its_directory", set("work", "name", "work", "../x"), only_work, "../x",
       "../x"},
      {"name_too_long", set("work", "name", "work", std::string(32, 'a')), only_work,
       std::string(32, 'a'), "31"},
      {"empty_name", set("work", "name", "work", ""), only_work, "", "name"},
      {"missing_name", without("work", "name", "work"), only_work, "domain-4", "no name"},
      {"name_of_dom0", set("work", "name", "work", "dom0"), only_work, "dom0", "dom0"},
      {"duplicate_name", twin("work", both(other_qid, other_uuid)), no_domain, "work", "same name"},
      {"two_names", add_property("work", "name", "play"), only_work, "play", "twice"},
      {"two_dom0s", twin("dom0", [](auto x) { return x; }), no_domain, "dom0", "same name"},
      // values
      // bytes
      // references
      {"dangling_template", set("work", "template", "debian", "arch"), only_work, "work", "arch"},
      {"missing_template", without("work", "template", "debian"), only_work, "work", "no template"},
      {"empty_template", set("work", "template", "debian", ""), only_work, "work", "template"},
      {"template_of_wrong_class", set("work", "template", "debian", "dvm"), only_work, "work",
       "template"},
      {"disposable_of_no_disposable_template",
       set("disp1234", "template", "dvm", "work"),
       {"disp1234"},
       "disp1234",
       "template"},
      {"reference_to_a_damaged_domain",
       in("sys-firewall", "AppVM", "FooVM"),
       {"sys-firewall"},
       "sys-firewall",
       "FooVM"},
      {"damaged_template",
       in("debian", "TemplateVM", "FooVM"),
       {"debian", "disp1234", "dvm", "sys-firewall", "sys-net", "work"},
       "disp1234",
       "not served"},
  };
}

std::vector<damaged> other_records_set_aside() {
  return {
      // labels
      {"label_without_id", replace(R"( id="label-9")", ""), no_domain, "sky", "label-",
       section::labels},
      {"label_with_bad_id", replace("label-9", "label-nine"), no_domain, "sky", "label-nine",
       section::labels},
      {"label_with_bad_color", replace("0x00c0ff", "blue"), no_domain, "sky", "blue",
       section::labels},
      {"label_without_name", replace(">sky<", "><"), no_domain, "label-9", "name", section::labels},
      {"duplicate_label_index", replace("label-9", "label-8"), no_domain, "sky", "index 8",
       section::labels},
      {"duplicate_label_name",
       replace("</labels>", R"(<label id="label-10" color="0x000001">sky</label></labels>)"),
       no_domain, "sky", "same name", section::labels},
      {"damaged_default_label", replace("0xcc0000", "red"), no_domain, "red", "color",
       section::labels},
      {"label_with_the_name_of_one_and_the_index_of_another",
       replace(R"(<label id="label-1" color="0xcc0000">)", R"(<label id="label-2" color="">)"),
       no_domain, "red", "color", section::labels},
      {"default_label_before_its_damaged_double",
       replace("<labels>", R"(<labels><label id="label-1" color="">sky</label>)"), no_domain, "sky",
       "color", section::labels},
      {"unknown_element_among_labels", replace("</labels>", "<sticker/></labels>"), no_domain,
       "sticker", "sticker", section::labels},
      // pools
      {"unknown_pool_driver", replace("</pools>", R"(<pool name="p" driver="floppy"/></pools>)"),
       no_domain, "p", "floppy", section::pools},
      {"missing_pool_attribute",
       replace("</pools>", R"(<pool name="p" driver="lvm_thin" volume_group="x"/></pools>)"),
       no_domain, "p", "thin_pool", section::pools},
      {"pool_without_name", replace("</pools>", R"(<pool driver="file" dir_path="/x"/></pools>)"),
       no_domain, "", "name", section::pools},
      {"pool_name_that_leaves_its_directory",
       replace("</pools>", R"(<pool name="../p" driver="file" dir_path="/x"/></pools>)"), no_domain,
       "../p", "../p", section::pools},
      {"duplicate_pool",
       replace("</pools>", R"(<pool name="varlibqubes" driver="file" dir_path="/x"/></pools>)"),
       no_domain, "varlibqubes", "same name", section::pools},
      {"pool_attribute_given_twice",
       replace("</pools>", R"(<pool name="p" driver="file" dir_path="/x" dir_path="/y"/></pools>)"),
       no_domain, "p", "dir_path", section::pools},
      {"damaged_pool_in_use",
       replace(R"(driver="file-reflink")", R"(driver="floppy")"),
       {},
       "varlibqubes",
       "floppy",
       section::pools},
      // global properties
      {"dangling_default_netvm",
       replace(property("default_netvm", "sys-firewall"), property("default_netvm", "gone")),
       no_domain, "default_netvm", "gone", section::properties},
      {"default_netvm_without_network",
       replace(property("default_netvm", "sys-firewall"), property("default_netvm", "far")),
       no_domain, "default_netvm", "far", section::properties},
      {"default_template_of_wrong_class",
       replace(property("default_template", "debian"), property("default_template", "work")),
       no_domain, "default_template", "work", section::properties},
      {"default_pool_that_is_gone",
       replace(property("default_pool_kernel", "linux-kernel"),
               property("default_pool_kernel", "gone")),
       no_domain, "default_pool_kernel", "gone", section::properties},
      {"unknown_global_property",
       replace("  </properties>\n  <domains>", property("colour", "x") + "</properties><domains>"),
       no_domain, "colour", "no such property", section::properties},
      {"computed_global_property",
       replace("  </properties>\n  <domains>", property("no_cpus", "4") + "</properties><domains>"),
       no_domain, "no_cpus", "no such property", section::properties},
      {"bad_global_integer",
       replace("  </properties>\n  <domains>",
               property("stats_interval", "x") + "</properties><domains>"),
       no_domain, "stats_interval", "x", section::properties},
      // the document
      {"unknown_section", replace("</qubes>", "<planets><planet/></planets></qubes>"), no_domain,
       "planets", "planets", section::document},
      {"unknown_element_among_domains", replace("</domains>", "<robot/></domains>"), no_domain,
       "robot", "robot", section::domains},
  };
}

struct quarantine : testing::TestWithParam<damaged> {};

std::vector<std::string> served_without(const std::vector<std::string>& lost) {
  auto names = load(good)->system.names();
  for (auto& x : lost)
    std::erase(names, x);
  return names;
}

std::string line_of(const std::string& text, int number) {
  auto stream = std::istringstream{text};
  auto line = std::string{};
  for (auto i = 0; i < number; ++i)
    std::getline(stream, line);
  return line;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

qubes::model::system without_lines(qubes::model::system x) {
  for (auto& y : x.quarantine)
    y.line = 0;
  return x;
}

std::vector<std::string> texts_of(const std::vector<xml::finding>& all) {
  auto result = std::vector<std::string>{};
  for (auto& x : all)
    result.push_back(x.text);
  std::ranges::sort(result);
  return result;
}

/// All elements that were kept without effect.
std::vector<std::string> kept_in(const qubes::model::system& all) {
  auto result = std::vector<std::string>{};
  auto add = [&](auto& x) { result.insert(result.end(), x.kept.begin(), x.kept.end()); };
  std::ranges::for_each(all.labels, add);
  std::ranges::for_each(all.pools, add);
  for (auto& x : all.domains) {
    add(*x);
    std::ranges::for_each(x->volumes, add);
    for (auto& list : x->devices)
      std::ranges::for_each(list.assignments, add);
  }
  return result;
}

/// After every load that succeeds: nothing is lost, and the next load finds the same.
void expect_nothing_lost(const std::string& text, const xml::loaded& first) {
  for (auto& x : first.system.quarantine) {
    EXPECT_NE(line_of(text, x.line).find(first_line(x.xml)), std::string::npos)
        << x.line << ": " << x.xml;
    EXPECT_FALSE(x.reason.empty());
  }
  auto saved = xml::save(first.system);
  for (auto& x : first.system.quarantine)
    EXPECT_NE(saved.find(x.xml), std::string::npos) << x.xml;
  for (auto& x : kept_in(first.system))
    EXPECT_NE(saved.find(x), std::string::npos) << x;
  auto second = load(saved);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_TRUE(without_lines(second->system) == without_lines(first.system)) << saved;
  EXPECT_FALSE(second->migrated);
  EXPECT_EQ(xml::save(second->system), saved);
  EXPECT_THAT(violations(first.system, host{}), testing::IsEmpty());
}

TEST_P(quarantine, takes_one_record_and_serves_the_rest) {
  auto& x = GetParam();
  auto text = x.apply(good);
  auto loaded = load(text);
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_EQ(loaded->system.names(), served_without(x.lost));
  auto& aside = loaded->system.quarantine;
  auto entry = std::ranges::find_if(
      aside, [&](auto& y) { return y.where == x.where && y.name == x.record; });
  ASSERT_NE(entry, aside.end()) << testing::PrintToString(texts_of(loaded->findings));
  EXPECT_THAT(entry->reason, testing::HasSubstr(x.reason));
  EXPECT_THAT(texts_of(loaded->findings),
              testing::Contains(testing::AllOf(testing::HasSubstr(x.record.substr(0, 60)),
                                               testing::HasSubstr(entry->reason))));
  for (auto& y : loaded->findings)
    EXPECT_GT(y.line, 0) << y.text;
  expect_nothing_lost(text, *loaded);
  auto again = load(xml::save(loaded->system));
  if (!loaded->migrated) {
    EXPECT_EQ(texts_of(again->findings), texts_of(loaded->findings));
  }
}

std::string name_of(const testing::TestParamInfo<damaged>& info) {
  return info.param.kind;
}

INSTANTIATE_TEST_SUITE_P(domains, quarantine, testing::ValuesIn(domains_set_aside()), name_of);
INSTANTIATE_TEST_SUITE_P(others, quarantine, testing::ValuesIn(other_records_set_aside()), name_of);

// -- damage that leaves the domain in service -----------------------------------------------------

struct entry : testing::TestWithParam<damaged> {};

TEST_P(entry, stays_in_the_file_without_effect_while_the_domain_is_served) {
  auto& x = GetParam();
  auto text = x.apply(good);
  auto loaded = load(text);
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_EQ(loaded->system.names(), served_without({}));
  EXPECT_TRUE(loaded->system.quarantine.empty());
  EXPECT_THAT(loaded->system.find(x.record)->kept, testing::SizeIs(1));
  EXPECT_THAT(texts_of(loaded->findings),
              testing::ElementsAre(
                  testing::AllOf(testing::HasSubstr(x.record), testing::HasSubstr(x.reason))));
  expect_nothing_lost(text, *loaded);
  auto again = load(xml::save(loaded->system));
  EXPECT_EQ(texts_of(again->findings), texts_of(loaded->findings));
}

const auto a_device = std::string{R"(<device backend-domain="sys-net" id="sda")"};

std::vector<damaged> entries_kept() {
  return {
      {"unknown_property", add_property("work", "flavour", "sweet"), {}, "work", "flavour"},
      {"computed_property", add_property("work", "gateway", "10.0.0.1"), {}, "work", "gateway"},
      {"property_of_another_class", add_property("far", "memory", "400"), {}, "far", "memory"},
      {"unknown_element",
       in("work", "<features>", "<pets><cat/></pets><features>"),
       {},
       "work",
       "pets"},
      {"unknown_feature_element",
       in("work", "<features>", "<features><trait/>"),
       {},
       "work",
       "trait"},
      {"bad_feature_name",
       in("work", "<features>", R"(<features><feature name="a b">1</feature>)"),
       {},
       "work",
       "a b"},
      {"feature_without_name",
       in("work", "<features>", "<features><feature>1</feature>"),
       {},
       "work",
       "feature"},
      {"feature_with_elements",
       in("work", "<features>", R"(<features><feature name="x"><b>1</b></feature>)"),
       {},
       "work",
       "inside"},
      {"tag_with_elements",
       in("work", R"(<tag name="audiovm-dom0"/>)", R"(<tag name="audiovm-dom0"><b>1</b></tag>)"),
       {},
       "work",
       "inside"},
      {"tag_with_text",
       in("work", R"(<tag name="audiovm-dom0"/>)", R"(<tag name="audiovm-dom0">x</tag>)"),
       {},
       "work",
       "inside"},
      {"tag_with_another_attribute",
       in("work", R"(<tag name="audiovm-dom0"/>)", R"(<tag name="audiovm-dom0" note="x"/>)"),
       {},
       "work",
       "audiovm-dom0"},
      {"bad_tag", in("work", "<tags>", R"(<tags><tag name="a b"/>)"), {}, "work", "a b"},
      {"old_tag", in("work", "<tags>", "<tags><tag>corp</tag>"), {}, "work", "tag"},
      {"bad_assignment_mode",
       in("work", R"(mode="auto-attach")", R"(mode="sometimes")"),
       {},
       "work",
       "sometimes"},
      {"old_mode_that_is_no_boolean",
       in("work", R"(mode="auto-attach")", R"(required="perhaps")"),
       {},
       "work",
       "perhaps"},
      {"device_of_a_missing_domain",
       in("work", a_device, R"(<device backend-domain="gone" id="sda")"),
       {},
       "work",
       "gone"},
      {"identity_that_guards",
       in("work", a_device + R"( mode="auto-attach" identity="*")",
          a_device + R"( mode="auto-attach" identity="a b")"),
       {},
       "work",
       "a b"},
      {"old_identity_that_guards",
       in("work", R"(<option name="read-only">yes</option>)",
          R"(<option name="identity">&x;</option>)"),
       {},
       "work",
       "&x;"},
      {"identity_of_a_card_anywhere",
       in("sys-net", R"(id="00_14.3" mode="required" identity="0x8086:0x51f0::p028000")",
          R"(id="*" mode="required" identity="0x8086:zz")"),
       {},
       "sys-net",
       "0x8086:zz"},
      {"duplicate_assignment",
       in("work", a_device, a_device + R"( mode="required"/>)" + a_device),
       {},
       "work",
       "twice"},
      {"port_that_leaves_its_folder",
       in("work", a_device, R"(<device backend-domain="sys-net" id="../sda")"),
       {},
       "work",
       "../sda"},
      {"device_without_backend",
       in("work", a_device, R"(<device backend-domain="" id="sda")"),
       {},
       "work",
       "backend"},
      {"device_of_a_damaged_backend",
       in("work", a_device, R"(<device backend-domain="sys-net&nope;" id="sda")"),
       {},
       "work",
       "&nope;"},
      {"device_at_a_damaged_port",
       in("sys-net", R"(id="00_14.3")", R"(id="00_14.3&#1;")"),
       {},
       "sys-net",
       "&#1;"},
      {"device_at_two_ports",
       in("sys-net", R"(id="00_14.3")", R"(id="00_14.3" id="00_14.3")"),
       {},
       "sys-net",
       "twice"},
      {"device_of_which_a_damaged_name_may_be_the_port",
       in("sys-net", R"( id="00_14.3")", " i\xFF=\"00_14.3\""),
       {},
       "sys-net",
       "0xff"},
      {"damaged_mode_that_guards",
       in("work", R"(mode="auto-attach")", R"(mode="&nope;")"),
       {},
       "work",
       "&nope;"},
      {"damaged_name_that_may_be_the_mode",
       in("work", R"(mode="auto-attach")", "mod\xFF=\"ask-to-attach\""),
       {},
       "work",
       "0xff"},
      {"damaged_identity_that_guards",
       in("work", a_device + R"( mode="auto-attach" identity="*")",
          a_device + R"( mode="auto-attach" identity="*" identity="*")"),
       {},
       "work",
       "twice"},
      {"disk_with_a_damaged_attribute",
       in("work", a_device, a_device + R"( readonly="&yes;")"),
       {},
       "work",
       "&yes;"},
      {"devices_of_a_damaged_class",
       in("work", R"(<devices class="pci"/>)", R"(<devices class="pci&nope;"/>)"),
       {},
       "work",
       "&nope;"},
      {"device_of_its_own",
       in("work", a_device, R"(<device backend-domain="work" id="sda")"),
       {},
       "work",
       "itself"},
      {"devices_without_class",
       in("work", R"(<devices class="pci"/>)", "<devices/>"),
       {},
       "work",
       "devices"},
      {"devices_of_a_remote_domain",
       in("far", "<features/>", R"(<features/><devices class="usb"/>)"),
       {},
       "far",
       "devices"},
      {"volumes_of_a_remote_domain",
       in("far", "<features/>", "<features/><volume-config/>"),
       {},
       "far",
       "volume-config"},
      {"volume_in_an_unknown_pool",
       in("work", R"(name="private" pool="varlibqubes")", R"(name="private" pool="gone")"),
       {},
       "work",
       "gone"},
      {"volume_in_a_pool_of_kernels",
       in("work", R"(name="private" pool="varlibqubes")", R"(name="private" pool="linux-kernel")"),
       {},
       "work",
       "for kernels"},
      {"volume_given_twice",
       in("work", "<volume-config>",
          R"(<volume-config><volume name="root" pool="varlibqubes" vid="x"/>)"),
       {},
       "work",
       "twice"},
      {"volume_that_leaves_its_pool",
       in("work", "appvms/work/private", "appvms/../../etc/shadow"),
       {},
       "work",
       "vid"},
      {"volume_at_the_root_of_the_disk",
       in("work", "appvms/work/private", "/etc/shadow"),
       {},
       "work",
       "vid"},
      {"volume_without_vid", in("work", R"( vid="appvms/work/private")", ""), {}, "work", "vid"},
      {"volume_with_an_empty_vid",
       in("work", R"(vid="appvms/work/private")", R"(vid="")"),
       {},
       "work",
       "vid"},
      {"volume_without_name",
       in("work", R"(<volume name="private")", "<volume"),
       {},
       "work",
       "volume"},
      {"volume_attribute_given_twice",
       in("work", R"(pool="varlibqubes")", R"(pool="varlibqubes" pool="linux-kernel")"),
       {},
       "work",
       "pool"},
      {"volume_with_a_damaged_vid",
       in("work", "appvms/work/private", "appvms/work/private&nope;"),
       {},
       "work",
       "vid"},
      {"volume_in_a_damaged_pool",
       in("work", R"(name="private" pool="varlibqubes")",
          R"(name="private" pool="varlibqubes&#1;")"),
       {},
       "work",
       "pool"},
      {"volume_of_a_damaged_source",
       in("work", R"(source="vm-templates)", R"(source="&nope;vm-templates)"),
       {},
       "work",
       "source"},
      {"snapshot_of_which_a_damaged_name_may_be_the_source",
       in("work", "source=", "sourc\xFF="),
       {},
       "work",
       "source"},
      {"unknown_volume_element",
       in("work", "<volume-config>", "<volume-config><disc/>"),
       {},
       "work",
       "disc"},
      {"bad_property_of_dom0",
       add_property("dom0", "keyboard_layout", "us"),
       {},
       "dom0",
       "keyboard_layout"},
      {"dangling_reference_of_dom0",
       set("dom0", "default_dispvm", "dvm", "gone"),
       {},
       "dom0",
       "gone"},
      {"bad_integer", set("work", "memory", "600", "6oo"), {}, "work", "6oo"},
      {"huge_integer", set("work", "memory", "600", std::string(41, '9')), {}, "work", "memory"},
      {"negative_memory", set("work", "memory", "600", "-1"), {}, "work", "memory"},
      {"empty_integer", set("work", "vcpus", "4", ""), {}, "work", "vcpus"},
      {"bad_boolean", set("work", "autostart", "True", "maybe"), {}, "work", "maybe"},
      {"bad_ip", set("work", "ip", "10.137.50.7", "10.137.50.777"), {}, "work", "777"},
      {"bad_ip6", set("work", "ip6", "fd09:24ef:4179::dead:1", "fd09:::1"), {}, "work", "ip6"},
      {"bad_mac", set("work", "mac", "00:16:3e:5e:6c:aa", "00:16:3e"), {}, "work", "mac"},
      {"bad_virt_mode", set("sys-net", "virt_mode", "hvm", "xen"), {}, "sys-net", "virt_mode"},
      {"bad_keyboard_layout",
       add_property("work", "keyboard_layout", "us"),
       {},
       "work",
       "keyboard_layout"},
      {"unknown_label", set("work", "label", "blue", "beige"), {}, "work", "beige"},
      {"label_reference_to_nothing",
       in("work", property("label", "blue"), R"(<property name="label" ref="label-77"/>)"),
       {},
       "work",
       "label-77"},
      {"element_inside_a_property",
       set("work", "netvm", "sys-firewall", "sys-<b/>firewall"),
       {},
       "work",
       "inside"},
      {"old_switch_that_is_no_boolean",
       add_property("work", "hvm", "perhaps"),
       {},
       "work",
       "perhaps"},
      {"latin_1", in("work", "firefox", "caf\xE9"), {}, "work", "0xe9"},
      {"overlong_utf_8", in("work", "firefox", "\xC0\xAF"), {}, "work", "0xc0"},
      {"half_a_character", in("work", "firefox", "\xE2\x82"), {}, "work", "UTF-8"},
      {"utf_8_where_ascii_must_be", in("work", "firefox", "caf\xC3\xA9"), {}, "work", "menu-items"},
      {"control_character", in("work", "firefox", "\x01"), {}, "work", "0x01"},
      {"escaped_control_character", in("work", "firefox", "&#1;"), {}, "work", "&#1;"},
      {"escaped_zero", in("work", "firefox", "a&#0;b"), {}, "work", "&#0;"},
      {"unknown_entity", in("work", "firefox", "&lol;"), {}, "work", "&lol;"},
      {"bare_ampersand", in("work", "firefox", "a & b"), {}, "work", "&"},
      {"dangling_netvm", set("work", "netvm", "sys-firewall", "sys-vpn"), {}, "work", "sys-vpn"},
      {"dangling_guivm", set("work", "guivm", "dom0", "sys-gui"), {}, "work", "sys-gui"},
      {"dangling_audiovm", set("work", "audiovm", "dom0", "sys-audio"), {}, "work", "sys-audio"},
      {"dangling_default_dispvm", set("work", "default_dispvm", "dvm", "gone"), {}, "work", "gone"},
      {"dangling_management_dispvm",
       set("work", "management_dispvm", "dvm", "gone"),
       {},
       "work",
       "gone"},
      {"dangling_relayvm", set("far", "relayvm", "sys-net", "gone"), {}, "far", "gone"},
      {"reference_by_number",
       in("work", property("netvm", "sys-firewall"), R"(<property name="netvm" ref="domain-3"/>)"),
       {},
       "work",
       "domain-3"},
      {"reference_that_is_no_name",
       set("work", "netvm", "sys-firewall", "../../etc"),
       {},
       "work",
       "netvm"},
      {"netvm_on_another_machine",
       set("work", "netvm", "sys-firewall", "far"),
       {},
       "work",
       "netvm"},
      {"name_of_dom0_in_the_file", add_property("dom0", "name", "dom0"), {}, "dom0", "name"},
  };
}

INSTANTIATE_TEST_SUITE_P(table, entry, testing::ValuesIn(entries_kept()), name_of);

// -- options of a device --------------------------------------------------------------------------

struct damaged_entry {
  const char* kind;
  damage apply;
  const char* kept;                                       ///< text of the file that is kept
  const char* told;                                       ///< in the finding
  device_options options = {{"no-strict-reset", "True"}}; ///< options that have an effect
};

void PrintTo(const damaged_entry& x, std::ostream* out) {
  *out << x.kind;
}

constexpr auto an_option = R"(<option name="no-strict-reset">True</option>)";

damaged_entry beside(const char* kind, const char* element, const char* told) {
  return {kind, in("sys-net", an_option, std::string{an_option} + element), element, told};
}

damaged_entry at_card(const char* kind, const char* from, const char* to, const char* told) {
  return {kind, in("sys-net", from, to), to, told};
}

const auto the_card = std::string{R"(identity="0x8086:0x51f0::p028000")"};

damaged_entry said_of_card(const char* kind, const char* attribute, const char* told) {
  return {kind, in("sys-net", the_card, fmt::format("{} {}", the_card, attribute)), attribute,
          told};
}

std::vector<damaged_entry> damaged_cards() {
  return {
      beside("without_name", "<option>1</option>", "no name"),
      beside("empty_name", R"(<option name="">1</option>)", "no name"),
      beside("control_character", R"(<option name="note">a&#1;b</option>)", "&#1;"),
      beside("raw_control_character", "<option name=\"note\">a\x01</option>", "0x01"),
      beside("unknown_entity", R"(<option name="note">&nope;</option>)", "&nope;"),
      beside("value_that_is_not_ascii", "<option name=\"note\">B\xC3\xBCro</option>", "note"),
      beside("value_of_two_lines", "<option name=\"note\">a\nb</option>", "note"),
      beside("name_that_is_not_ascii", "<option name=\"gr\xC3\xB6\">1</option>", "gr"),
      beside("name_with_a_blank", R"(<option name="a b">1</option>)", "a b"),
      beside("elements_inside", R"(<option name="note"><b/>1</option>)", "inside"),
      beside("no_option", "<note>1</note>", "note"),
      beside("damaged_no_option", "<note>&nope;</note>", "note"),
      at_card("identity", the_card.c_str(), R"(identity="0x8086:zz")", "0x8086:zz"),
      at_card("mode", R"(mode="required")", R"(mode="sometimes")", "sometimes"),
      at_card("old_mode", R"(mode="required")", R"(required="perhaps")", "perhaps"),
      at_card("damaged_identity", the_card.c_str(), R"(identity="0x8086&nope;")", "&nope;"),
      at_card("damaged_mode", R"(mode="required")", R"(mode="&nope;")", "&nope;"),
      at_card("control_character_in_mode", R"(mode="required")", "mode=\"required\x01\"", "0x01"),
      at_card("damaged_old_mode", R"(mode="required")", "required=\"\xFF\"", "0xff"),
      at_card("mode_given_twice", R"(mode="required")", R"(mode="required" mode="auto-attach")",
              "twice"),
      said_of_card("damaged_attribute", R"(note="a &nope; &lt;")", "'note'"),
      said_of_card("damaged_attribute_in_other_quotes", R"(note='"&nope;"')", "'note'"),
      said_of_card("attribute_given_twice", R"(note="1" note="2")", "'note'"),
      said_of_card("damaged_name", "no\xFFte=\"1\"", "0xff"),
      said_of_card("attribute_of_another_version", R"(future="&lt;1&gt;")", "'future'"),
      {"given_twice",
       in("sys-net", "True</option>", R"(no</option><option name="no-strict-reset">True</option>)"),
       an_option, "twice"},
      {"second_one_damaged",
       in("sys-net", an_option,
          std::string{an_option} + R"(<option name="no-strict-reset">&x;</option>)"),
       R"(<option name="no-strict-reset">&x;</option>)",
       "&x;",
       {}},
  };
}

struct network_card : testing::TestWithParam<damaged_entry> {};

/// Without its network card the host has no network.
TEST_P(network_card, stays_assigned_despite_unknown_options) {
  auto& x = GetParam();
  auto text = x.apply(good);
  auto loaded = load(text);
  ASSERT_TRUE(loaded) << loaded.error().message();
  auto& net = *loaded->system.find("sys-net");
  EXPECT_THAT(net.kept, testing::IsEmpty());
  ASSERT_EQ(net.devices.size(), 1U);
  ASSERT_EQ(net.devices[0].assignments.size(), 1U);
  auto& it = net.devices[0].assignments[0];
  EXPECT_EQ(it.port, "00_14.3");
  EXPECT_EQ(it.mode, assignment_mode::required);
  EXPECT_EQ(it.options, x.options);
  EXPECT_THAT(it.identity, testing::AnyOf("*", "0x8086:0x51f0::p028000"));
  EXPECT_THAT(xml::save(loaded->system), testing::HasSubstr(x.kept));
  EXPECT_THAT(texts_of(loaded->findings),
              testing::ElementsAre(testing::AllOf(testing::HasSubstr("sys-net"),
                                                  testing::HasSubstr("00_14.3"),
                                                  testing::HasSubstr(x.told))));
  EXPECT_TRUE(loaded->findings[0].holds(loaded->system));
  EXPECT_GT(loaded->findings[0].line, 0);
  expect_nothing_lost(text, *loaded);
}

INSTANTIATE_TEST_SUITE_P(table, network_card, testing::ValuesIn(damaged_cards()),
                         [](auto& info) { return info.param.kind; });

constexpr auto read_only = R"(<option name="read-only">yes</option>)";

std::vector<damaged_entry> damaged_disks() {
  auto instead = [](const char* kind, const char* element, const char* told,
                    device_options holds = {}) {
    return damaged_entry{kind, in("work", read_only, element), element, told, std::move(holds)};
  };
  const auto guarded = device_options{{"read-only", "yes"}};
  return {
      instead("bad_name_in_the_guest", R"(<option name="frontend-dev">../x</option>)", "../x"),
      instead("name_of_its_own_disk", R"(<option name="frontend-dev">xvda</option>)", "xvda"),
      instead("read_only_perhaps", R"(<option name="read-only">perhaps</option>)", "perhaps",
              guarded),
      instead("read_only_damaged", R"(<option name="read-only">&no;</option>)", "&no;", guarded),
      instead("read_only_with_elements", R"(<option name="read-only"><b/>no</option>)", "inside",
              guarded),
  };
}

struct assigned_disk : testing::TestWithParam<damaged_entry> {};

TEST_P(assigned_disk, stays_and_is_never_less_guarded) {
  auto& x = GetParam();
  auto text = x.apply(good);
  auto loaded = load(text);
  ASSERT_TRUE(loaded) << loaded.error().message();
  auto& all = loaded->system.find("work")->devices[0].assignments;
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[1].port, "sdb");
  EXPECT_EQ(all[1].options, x.options);
  auto saved = xml::save(loaded->system);
  EXPECT_THAT(saved, testing::HasSubstr(x.kept));
  EXPECT_THAT(saved, testing::Not(testing::HasSubstr(read_only))) << "what nobody wrote";
  EXPECT_THAT(texts_of(loaded->findings), testing::ElementsAre(testing::AllOf(
                                              testing::HasSubstr("work"), testing::HasSubstr("sdb"),
                                              testing::HasSubstr(x.told))));
  expect_nothing_lost(text, *loaded);
}

INSTANTIATE_TEST_SUITE_P(table, assigned_disk, testing::ValuesIn(damaged_disks()),
                         [](auto& info) { return info.param.kind; });

/// The unknown option may mean that the disk is read, and not written to.
TEST(assigned_disk, with_an_unknown_option_is_not_attached) {
  for (auto element :
       {R"(<option name="devtype">cd-rom</option>)", R"(<option nam="read-only">yes</option>)",
        "<read-only/>", R"(<option name="readonly">yes<b/></option>)"}) {
    auto loaded = load(in("work", read_only, element)(good));
    ASSERT_TRUE(loaded) << element;
    auto& work = *loaded->system.find("work");
    EXPECT_EQ(assigned(work, "block").size(), 1U) << element;
    EXPECT_THAT(work.kept, testing::SizeIs(1));
    EXPECT_EQ(loaded->findings.size(), 1U);
    EXPECT_THAT(xml::save(loaded->system), testing::HasSubstr(element));
  }
}

/// In whatever order the options stand.
TEST(assigned_disk, keeps_its_other_options) {
  const auto unclear = std::string{R"(<option name="read-only">&x;</option>)"};
  const auto other = std::string{R"(<option name="frontend-dev">xvdi</option>)"};
  for (auto& options : {unclear + other, other + unclear}) {
    auto text = in("work", read_only, options)(good);
    auto loaded = load(text);
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->system.find("work")->devices[0].assignments[1].options,
              (device_options{{"read-only", "yes"}, {"frontend-dev", "xvdi"}}));
    expect_nothing_lost(text, *loaded);
  }
}

TEST(assigned_disk, with_a_valid_second_entry_is_as_that_entry_says) {
  auto text =
      in("work", read_only,
         R"(<option name="read-only">&x;</option><option name="read-only">no</option>)")(good);
  auto loaded = load(text);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->system.find("work")->devices[0].assignments[1].options,
            (device_options{{"read-only", "no"}}));
  EXPECT_THAT(xml::save(loaded->system), testing::HasSubstr(R"("read-only">no<)"));
}

/// As with a volume: a client that sets another value replaces the kept text.
TEST(network_card, has_the_mode_that_it_is_given) {
  auto loaded = load(in("sys-net", R"(mode="required")", R"(mode="sometimes")")(good));
  ASSERT_TRUE(loaded);
  auto board = live_board{};
  auto machine = host{};
  auto plan = plan_set_assignment({loaded->system, board, machine}, *loaded->system.find("sys-net"),
                                  "pci", "dom0+00_14.3:0x8086:0x51f0::p028000", "required");
  ASSERT_FALSE(plan.refusal) << plan.refusal->text;
  auto next = apply(loaded->system, machine, plan.what);
  ASSERT_TRUE(next);
  EXPECT_FALSE(loaded->findings.at(0).holds(*next));
  auto saved = xml::save(*next);
  EXPECT_THAT(saved, testing::HasSubstr(R"(id="00_14.3" mode="required")"));
  EXPECT_THAT(saved, testing::Not(testing::HasSubstr("sometimes")));
}

/// When one of the two spellings is damaged, which of them was meant is unknown.
TEST(network_card, keeps_both_spellings_of_its_mode) {
  for (auto modes :
       {R"(mode="auto-attach" required="&nope;")", R"(mode="auto-attach" required="perhaps")",
        R"(required="&nope;" mode="auto-attach")", R"(mode="&nope;" required="False")"}) {
    auto text = in("sys-net", R"(mode="required")", modes)(good);
    auto loaded = load(text);
    ASSERT_TRUE(loaded) << modes;
    auto& all = loaded->system.find("sys-net")->devices[0].assignments;
    ASSERT_EQ(all.size(), 1U) << modes;
    EXPECT_EQ(all[0].mode, assignment_mode::required) << modes;
    EXPECT_EQ(all[0].unknown.size(), 2U) << modes;
    EXPECT_EQ(loaded->findings.size(), 1U) << modes;
    expect_nothing_lost(text, *loaded);
  }
}

/// Two assignments that are equal when neither has an identity that is understood.
TEST(network_card, is_assigned_once) {
  auto device = R"(<device backend-domain="dom0" id="00_14.3" mode="required" identity="*"/>)";
  auto text = both(in("sys-net", the_card, R"(identity="zz")"),
                   in("sys-net", R"(<devices class="pci">)",
                      std::string{R"(<devices class="pci">)"} + device))(good);
  auto loaded = load(text);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->system.find("sys-net")->devices[0].assignments.size(), 1U);
  expect_nothing_lost(text, *loaded);
}

TEST(repair, serves_entries_with_unknown_elements_inside) {
  for (
      auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
          {">sky<", "><b>sea</b>sky<"},
          {R"(driver="linux-kernel"/>)", R"(driver="linux-kernel"><b>sea</b></pool>)"},
          {R"(vid="6.12" revisions_to_keep="0" rw="False" save_on_stop="False" snap_on_start="False"/>)",
           R"(vid="6.12" revisions_to_keep="0" rw="False" save_on_stop="False" snap_on_start="False"><b>sea</b></volume>)"},
      }) {
    auto text = replace(from, to)(good);
    auto loaded = load(text);
    ASSERT_TRUE(loaded) << from;
    EXPECT_THAT(loaded->system.quarantine, testing::IsEmpty());
    EXPECT_THAT(kept_in(loaded->system), testing::ElementsAre("<b>sea</b>")) << from;
    EXPECT_THAT(texts_of(loaded->findings), testing::ElementsAre(testing::HasSubstr("inside")));
    expect_nothing_lost(text, *loaded);
  }
}

/// A right may depend on the tag.
TEST(repair, serves_a_tag_with_elements_inside_until_it_is_removed) {
  auto loaded = load(in("work", R"(<tag name="audiovm-dom0"/>)",
                        R"(<tag name="audiovm-dom0"><b>1</b></tag>)")(good));
  ASSERT_TRUE(loaded);
  EXPECT_TRUE(loaded->system.find("work")->tags.contains("audiovm-dom0"));
  auto next = apply(loaded->system, host{}, {{remove_tag{"work", "audiovm-dom0"}}});
  ASSERT_TRUE(next);
  EXPECT_THAT(xml::save(*next), testing::Not(testing::HasSubstr("<b>1</b>")));
}

struct misfit {
  const char* attribute;
  const char* good;
  const char* bad;
};

struct option_of_a_volume : testing::TestWithParam<misfit> {};

/// The domain is served with the default; only a client that sets the option replaces the kept
/// text.
TEST_P(option_of_a_volume, stays_as_it_was_written_until_it_is_set) {
  auto& x = GetParam();
  auto written = [&](const char* text) { return fmt::format("{}=\"{}\"", x.attribute, text); };
  constexpr auto size = "size=\"2147483648\"";
  auto text = in("work", size, fmt::format("{} ephemeral=\"False\"", size))(good);
  auto at = text.find(written(x.good), text.find("appvms/work/private"));
  auto bad = text.replace(at, written(x.good).size(), written(x.bad));
  auto loaded = load(bad);
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_THAT(texts_of(loaded->findings),
              testing::ElementsAre(
                  testing::AllOf(testing::HasSubstr(x.attribute), testing::HasSubstr("private"))));
  auto& work = *loaded->system.find("work");
  EXPECT_TRUE(work.find_volume("private"));
  EXPECT_THAT(xml::save(loaded->system), testing::HasSubstr(written(x.bad)));
  auto board = live_board{};
  auto machine = host{};
  auto now = view{loaded->system, board, machine};
  auto key = std::string_view{x.attribute};
  auto plan = key == "rw"          ? plan_set_volume_rw(now, work, "private", x.good)
              : key == "ephemeral" ? plan_set_volume_ephemeral(now, work, "private", x.good)
              : key == "size"      ? plan_set_volume_size(now, work, "private", 2147483648)
                                   : plan_set_volume_revisions(now, work, "private", x.good);
  ASSERT_FALSE(plan.refusal) << plan.refusal->text;
  auto next = apply(loaded->system, machine, plan.what);
  ASSERT_TRUE(next);
  EXPECT_THAT(xml::save(*next), testing::Not(testing::HasSubstr(written(x.bad))));
}

INSTANTIATE_TEST_SUITE_P(
    table, option_of_a_volume,
    testing::Values(misfit{"rw", "True", "perhaps"}, misfit{"ephemeral", "False", "True"},
                    misfit{"revisions_to_keep", "1", "007"}, misfit{"revisions_to_keep", "1", "-2"},
                    misfit{"rw", "True", "&nope;"}, misfit{"ephemeral", "False", "\xFF"},
                    misfit{"size", "2147483648", "2147483648&#1;"},
                    misfit{"revisions_to_keep", "1", "1\" revisions_to_keep=\"1"},
                    misfit{"revisions_to_keep", "1", "\x01"},
                    misfit{"size", "2147483648", "2 GiB"}),
    [](auto& x) { return fmt::format("{}_{}", x.param.attribute, x.index); });

/// Attributes of a volume that do not say where its data is.
TEST(repair, serves_a_volume_with_unknown_attributes) {
  constexpr auto size = R"(size="2147483648")";
  for (auto& odd :
       std::vector<std::string>{R"(note="&nope;")", "note=\"\x01\"", "note=\"a\xFF\"",
                                R"(note="1" note="2")", R"(note='"&nope;"')", "no\xFFte=\"1\"",
                                R"(internal="&nope;")", R"(future="&lt;1&gt;")"}) {
    SCOPED_TRACE(odd);
    auto text = in("work", size, fmt::format("{} {}", size, odd))(good);
    auto loaded = load(text);
    ASSERT_TRUE(loaded);
    auto& work = *loaded->system.find("work");
    ASSERT_TRUE(work.find_volume("private"));
    EXPECT_FALSE(has_unusable_volume(work));
    EXPECT_EQ(work.find_volume("private")->size, std::uint64_t{1} << 31);
    EXPECT_THAT(texts_of(loaded->findings), testing::ElementsAre(testing::AllOf(testing::HasSubstr(
                                                "'private' of domain 'work' has no effect"))));
    EXPECT_TRUE(loaded->findings[0].holds(loaded->system));
    EXPECT_THAT(xml::save(loaded->system), testing::HasSubstr(odd));
    expect_nothing_lost(text, *loaded);
  }
}

/// A record has no place for such elements and attributes.
TEST(repair, names_entries_that_the_next_save_leaves_out) {
  struct stray {
    damage apply;
    const char* told;
  };
  const auto pci = std::string{R"(<devices class="pci">)"};
  const stray table[]{
      {replace("<qubes>", R"(<qubes note="stray">)"), "'note' of <qubes>"},
      {replace("<labels>", "<labels>stray"), "text inside of <labels>"},
      {replace(R"(color="0xcc0000")", R"(color="0xcc0000" note="stray")"),
       "'note' of label 'label-1'"},
      {replace(R"(driver="linux-kernel"/>)", R"(driver="linux-kernel">stray</pool>)"),
       "text inside of pool 'linux-kernel'"},
      {replace(R"(<property name="default_netvm">)",
               R"(<property name="default_netvm" note="stray">)"),
       "'note' of property 'default_netvm'"},
      {in("work", R"( class="AppVM")", R"( class="AppVM" note="stray")"), "'note' of domain"},
      {in("work", "<properties>", R"(<properties note="stray">)"),
       "'note' of <properties> of domain 'work'"},
      {in("work", R"(name="memory")", R"(name="memory" name="stray")"),
       "'name' of property 'memory' of domain 'work'"},
      {in("work", "<properties>", "<properties>&stray;"), "text inside of <properties>"},
      {in("work", R"(name="memory")", R"(name="memory" note="stray")"),
       "'note' of property 'memory' of domain 'work'"},
      {in("work", R"(<feature name="menu-items")", R"(<feature name="menu-items" note="stray")"),
       "'note' of feature 'menu-items'"},
      {in("work", "<features>", "<features>stray"), "text inside of <features>"},
      {in("work", "<tags>", R"(<tags note="&stray;">)"), "'note' of <tags>"},
      {in("sys-net", pci, R"(<devices class="pci" note="&stray;">)"), "'note' of devices 'pci'"},
      {in("sys-net", an_option, std::string{an_option} + "stray"),
       "text inside of device '00_14.3'"},
      {in("sys-net", R"(<option name="no-strict-reset")",
          R"(<option name="no-strict-reset" note="stray")"),
       "'note' of option 'no-strict-reset'"},
      {in("work", "<volume-config>", R"(<volume-config note="stray">)"),
       "'note' of <volume-config>"},
      {in("work", R"(size="2147483648"/>)", R"(size="2147483648">&stray;</volume>)"),
       "text inside of volume 'private'"},
  };
  for (auto& x : table) {
    auto text = x.apply(good);
    auto loaded = load(text);
    ASSERT_TRUE(loaded) << x.told;
    EXPECT_THAT(texts_of(loaded->findings),
                testing::ElementsAre(testing::AllOf(testing::HasSubstr(x.told),
                                                    testing::HasSubstr("lost at the next save"))));
    EXPECT_THAT(xml::save(loaded->system), testing::Not(testing::HasSubstr("stray"))) << x.told;
    EXPECT_THAT(kept_in(loaded->system), testing::IsEmpty()) << x.told;
    expect_nothing_lost(text, *loaded);
  }
}

/// The old switch is removed by the upgrade; its value must be kept.
TEST(repair, keeps_the_value_of_an_old_switch_beside_an_unreadable_new_value) {
  auto old = in("work", "<features>", R"(<features><feature name="service.meminfo-writer"/>)");
  for (auto& text : {both(old, set("work", "maxmem", "3000", "much"))(good),
                     both(add_property("work", "virt_mode", "xen"),
                          add_property("work", "hvm", "True"))(good)}) {
    auto loaded = load(text);
    ASSERT_TRUE(loaded);
    expect_nothing_lost(text, *loaded);
  }
}

/// If the pool were not served, no domain with a volume in it would start.
TEST(repair, serves_a_pool_one_of_whose_settings_is_bad) {
  constexpr auto good_one = R"(revisions_to_keep="1")";
  for (auto bad :
       {R"(revisions_to_keep="")", R"(revisions_to_keep="one")", R"(revisions_to_keep="-5")"}) {
    auto text = replace(good_one, bad)(good);
    auto loaded = load(text);
    ASSERT_TRUE(loaded) << bad;
    EXPECT_THAT(loaded->system.quarantine, testing::IsEmpty()) << bad;
    EXPECT_THAT(texts_of(loaded->findings),
                testing::ElementsAre(testing::AllOf(testing::HasSubstr("varlibqubes"),
                                                    testing::HasSubstr("revisions_to_keep"))));
    EXPECT_FALSE(has_unusable_volume(*loaded->system.find("work"))) << bad;
    expect_nothing_lost(text, *loaded);
  }
  auto also = load(replace(R"(ephemeral_volatile="False")", R"(ephemeral_volatile="x")")(good));
  ASSERT_TRUE(also);
  EXPECT_FALSE(has_unusable_volume(*also->system.find("work")));
  EXPECT_THAT(texts_of(also->findings),
              testing::ElementsAre(testing::HasSubstr("ephemeral_volatile")));
}

TEST(repair, tells_a_pool_whose_place_is_relative) {
  auto loaded =
      load(replace("<pools>", R"(<pools><pool name="here" driver="file" dir_path="x"/>)")(good));
  ASSERT_TRUE(loaded);
  ASSERT_TRUE(loaded->system.find_pool("here"));
  EXPECT_THAT(texts_of(loaded->findings),
              testing::ElementsAre(testing::AllOf(testing::HasSubstr("'here'"),
                                                  testing::HasSubstr("no absolute path"))));
}

/// As with two values of a property of a domain.
TEST(repair, takes_the_last_of_two_values_of_a_global_property) {
  auto both = property("default_netvm", "sys-firewall") + property("default_netvm", "sys-net");
  auto loaded = load(replace(property("default_netvm", "sys-firewall"), both)(good));
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->system.globals.at("default_netvm"), value{std::string{"sys-net"}});
  EXPECT_THAT(texts_of(loaded->findings),
              testing::ElementsAre(testing::AllOf(testing::HasSubstr("default_netvm"),
                                                  testing::HasSubstr("twice"))));
}

TEST(findings, hold_until_their_cause_is_repaired) {
  auto machine = host{};
  auto board = live_board{};
  struct repair {
    const char* kind;
    damage spoil;
    std::function<change(const view&)> mend;
  };
  auto work = [](const view& now) { return now.system.find("work"); };
  const repair table[]{
      {"a property", set("work", "memory", "600", "much"),
       [](auto&) {
         return change{{set_property{"work", "memory", std::int64_t{500}}}};
       }},
      {"a volume", in("work", R"(size="2147483648")", R"(size="2 GiB")"),
       [&](auto& now) {
         return plan_set_volume_size(now, *work(now), "private", std::uint64_t{1} << 31).what;
       }},
      {"a pool", replace(R"(revisions_to_keep="1")", R"(revisions_to_keep="one")"),
       [](auto& now) { return plan_set_pool_revisions(now, "varlibqubes", "2").what; }},
      {"the host",
       replace(property("default_netvm", "sys-firewall"), property("default_netvm", "gone")),
       [](auto&) {
         return change{{reset_property{"", "default_netvm"}}};
       }},
  };
  for (auto& x : table) {
    SCOPED_TRACE(x.kind);
    auto loaded = load(x.spoil(good));
    ASSERT_TRUE(loaded);
    ASSERT_EQ(loaded->findings.size(), 1U);
    auto& found = loaded->findings.front();
    EXPECT_TRUE(found.holds(loaded->system));
    auto next = apply(loaded->system, machine, x.mend({loaded->system, board, machine}));
    ASSERT_TRUE(next) << next.error().text;
    EXPECT_FALSE(found.holds(*next)) << found.text;
  }
}

TEST(repair, of_a_global_property_is_a_new_value_of_it) {
  auto loaded = load(
      replace(property("default_netvm", "sys-firewall"), property("default_netvm", "gone"))(good));
  ASSERT_TRUE(loaded);
  ASSERT_EQ(loaded->system.quarantine.size(), 1U);
  auto machine = host{};
  for (auto& what : {edit{set_property{"", "default_netvm", std::string{"sys-net"}}},
                     edit{reset_property{"", "default_netvm"}}}) {
    auto next = apply(loaded->system, machine, {{what}});
    ASSERT_TRUE(next);
    EXPECT_THAT(next->quarantine, testing::IsEmpty());
    EXPECT_THAT(xml::save(*next), testing::Not(testing::HasSubstr(">gone<")));
  }
}

TEST(repair, keeps_the_size_of_an_empty_volume) {
  auto loaded = load(in("work", "size=\"2147483648\"", "size=\"0\"")(good));
  ASSERT_TRUE(loaded);
  ASSERT_EQ(loaded->system.find("work")->find_volume("private")->size, 0U);
  auto again = load(xml::save(loaded->system));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->system.find("work")->find_volume("private")->size, 0U);
}

/// The text names no kernel; the domain's property names the kernel to use.
TEST(repair, serves_a_kernel_from_a_pool_of_kernels) {
  constexpr auto written = R"(name="kernel" pool="varlibqubes" vid="appvms/work/kernel")";
  auto text = in("work", R"(name="kernel" pool="linux-kernel" vid="6.12")", written)(good);
  auto loaded = load(text);
  ASSERT_TRUE(loaded);
  auto& all = loaded->system;
  auto* kernel = all.find("work")->find_volume("kernel");
  ASSERT_TRUE(kernel);
  EXPECT_EQ(kernel->pool, "linux-kernel");
  EXPECT_EQ(kernel->vid, "6.12");
  EXPECT_FALSE(has_unusable_volume(*all.find("work"))) << "it starts";
  EXPECT_THAT(
      texts_of(loaded->findings),
      testing::Each(testing::AllOf(testing::HasSubstr("work"), testing::HasSubstr("varlibqubes"))));
  EXPECT_THAT(loaded->findings, testing::SizeIs(2)) << "pool and vid";
  auto saved = xml::save(all);
  EXPECT_THAT(saved,
              testing::AllOf(testing::HasSubstr(R"(pool="varlibqubes" vid="appvms/work)"),
                             testing::Not(testing::HasSubstr("pool=\"linux-kernel\" pool"))));
  expect_nothing_lost(text, *loaded);
  auto without = replace(R"(<pool name="linux-kernel" dir_path="/var/lib/qubes/vm-kernels" )"
                         R"(driver="linux-kernel"/>)",
                         "")(text);
  auto nowhere = load(without);
  ASSERT_TRUE(nowhere);
  EXPECT_TRUE(has_unusable_volume(*nowhere->system.find("work"))) << "there is no such pool";
}

/// The copy may stand before or after the original in the file.
TEST(numbers, are_not_given_to_a_copy_that_has_the_disks_of_another) {
  auto copy = both(both(same_disks, other_uuid), other_qid);
  auto swapped = [&](const std::string& text) {
    auto made = copy(element_of("work", text));
    return replace("<domains>", "<domains>\n    " + made)(text);
  };
  for (auto& text : {twin("work", copy)(good), swapped(good)}) {
    auto loaded = load(text);
    ASSERT_TRUE(loaded) << loaded.error().message();
    EXPECT_TRUE(loaded->system.find("work"));
    EXPECT_FALSE(loaded->system.find("play"));
    ASSERT_EQ(loaded->system.quarantine.size(), 1U);
    EXPECT_THAT(loaded->system.quarantine[0].reason, testing::HasSubstr("that of domain 'work'"));
    EXPECT_FALSE(loaded->numbered);
  }
}

/// With one disk in two volumes, a start or stop of one domain would throw away what the other
/// keeps.
TEST(numbers, a_disk_that_two_volumes_have_sets_one_record_aside) {
  struct row {
    const char* volume;
    const char* vid;
    const char* told;
  };
  constexpr row table[]{{"root", "vm-templates/debian/root", "'root' is that of domain 'debian'"},
                        {"root", "appvms/dvm/private", "'root' is that of domain 'dvm'"},
                        {"volatile", "vm-templates/debian/root", "'volatile' is that of domain"},
                        {"volatile", "appvms/work/private", "are one disk"}};
  for (auto& x : table) {
    auto from = fmt::format("vid=\"appvms/work/{}\"", x.volume);
    auto loaded = load(in("work", from, fmt::format("vid=\"{}\"", x.vid))(good));
    ASSERT_TRUE(loaded) << x.vid;
    EXPECT_FALSE(loaded->system.find("work")) << x.vid;
    EXPECT_TRUE(loaded->system.find("debian") && loaded->system.find("dvm")) << x.vid;
    ASSERT_EQ(loaded->system.quarantine.size(), 1U) << x.vid;
    EXPECT_THAT(loaded->system.quarantine[0].reason, testing::HasSubstr(x.told));
  }
}

/// A number that is missing, or another domain's, is replaced for good.
TEST(numbers, of_domains_are_given_anew) {
  struct row {
    const char* kind;
    damage apply;
    std::string who;
    std::int64_t qid; ///< the number after the load
    std::string uuid;
    std::string told; ///< "" for nothing
  };
  constexpr auto own = "00000004-0000-4000-8000-000000000004";
  const auto fresh = qubes::tests::a_uuid();
  auto free = *free_qid(load(good)->system, {});
  const row table[]{
      {"missing", without("work", "qid", "4"), "work", 4, own, "it has none"},
      {"of dom0", set("work", "qid", "4", "0"), "work", 4, own, "it is 0, not one of 1 to"},
      {"too high", set("work", "qid", "4", "10001"), "work", 4, own, "10001"},
      {"negative", set("work", "qid", "4", "-4"), "work", 4, own, "-4"},
      {"no number", set("work", "qid", "4", "four"), "work", 4, own, "four"},
      {"no uuid", set("work", "uuid", own, "0-0"), "work", 4, fresh, "0-0"},
      {"empty uuid", set("work", "uuid", own, ""), "work", 4, fresh, "uuid"},
      {"missing uuid", without("work", "uuid", own), "work", 4, fresh, ""},
      {"same qid", twin("work", both(other_name, other_uuid)), "play", free,
       "00000099-0000-4000-8000-000000000099", "another domain has 4"},
      {"same uuid", twin("work", both(other_name, other_qid)), "play", 99, fresh,
       fmt::format("another domain has {}", own)},
      {"uuid of dom0", set("work", "uuid", own, "00000000-0000-0000-0000-000000000000"), "work", 4,
       fresh, "another domain has 00000000"},
      {"twice the same", add_property("work", "uuid", own), "work", 4, own, ""},
      {"twice the same name", add_property("work", "name", "work"), "work", 4, own, ""},
      {"a good one beside one that is none", add_property("work", "qid", "x"), "work", 4, own,
       "'x'"},
      {"a good one before another", add_property("work", "uuid", fresh), "work", 4, own, "twice"},
  };
  for (auto& x : table) {
    SCOPED_TRACE(x.kind);
    auto text = x.apply(good);
    auto loaded = load(text);
    ASSERT_TRUE(loaded) << loaded.error().message();
    EXPECT_THAT(loaded->system.quarantine, testing::IsEmpty());
    auto* who = loaded->system.find(x.who);
    ASSERT_TRUE(who);
    EXPECT_EQ(who->qid, x.qid);
    EXPECT_EQ(who->uuid, x.uuid);
    EXPECT_EQ(who->properties.at("qid"), value{x.qid});
    EXPECT_EQ(who->properties.at("uuid"), value{x.uuid});
    if (x.told.empty())
      EXPECT_THAT(loaded->findings, testing::IsEmpty());
    else
      EXPECT_THAT(
          texts_of(loaded->findings),
          testing::Contains(testing::AllOf(testing::HasSubstr(x.who), testing::HasSubstr(x.told))));
    expect_nothing_lost(text, *loaded);
  }
}

/// Until a record that is set aside is mended, the objects that it names stay, and its name is not
/// free.
TEST(records_set_aside, are_users_and_keep_their_place) {
  auto loaded = load(both(
      in("work", "AppVM", "FooVM"),
      both(set("work", "label", "blue", "sky"),
           replace("</labels>", R"(<label id="label-12" color="">tan</label></labels>)")))(good));
  ASSERT_TRUE(loaded);
  auto& all = loaded->system;
  ASSERT_EQ(all.find("work"), nullptr);
  auto board = live_board{};
  auto machine = host{};
  auto now = view{all, board, machine};
  using testing::Contains;
  using testing::HasSubstr;
  auto aside = [](auto& property) { return use{"work (set aside from qubes.xml)", property}; };
  EXPECT_THAT(users_of_domain(all, "debian"), Contains(aside("template")));
  EXPECT_THAT(users_of_domain(all, "sys-firewall"), Contains(aside("netvm")));
  EXPECT_THAT(users_of_label(all, "sky"), Contains(aside("label")));
  EXPECT_THAT(users_of_pool(now, "varlibqubes"), Contains(aside("private")));
  auto removed = apply(all, machine, {{remove_label{"sky"}}});
  ASSERT_FALSE(removed);
  EXPECT_THAT(removed.error().text, HasSubstr("set aside"));
  auto removal = plan_removal(now, *all.find("debian"));
  ASSERT_TRUE(removal.refusal);
  EXPECT_THAT(removal.refusal->text, HasSubstr("work (set aside from qubes.xml):template"));

  auto twin_of_work = [&](const char* name, std::int64_t qid, const char* uuid) {
    auto x = *all.find("sys-firewall");
    x.name = *domain_name::parse(name);
    x.qid = qid;
    x.uuid = uuid;
    return apply(all, machine, {{add_domain{std::make_shared<domain>(std::move(x))}}});
  };
  constexpr auto fresh = "00000077-0000-4000-8000-000000000077";
  for (auto& refused : {twin_of_work("work", 77, fresh), twin_of_work("play", 4, fresh),
                        twin_of_work("play", 77, "00000004-0000-4000-8000-000000000004")}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, errc::vm_already_exists);
    EXPECT_THAT(refused.error().text, HasSubstr("'work', which is set aside"));
  }
  auto qids = std::vector<std::int64_t>{};
  for (auto qid = free_qid(all, qids); qids.size() < 20; qid = free_qid(all, qids))
    qids.push_back(*qid);
  EXPECT_THAT(qids, testing::Not(Contains(4)));
  auto created = plan_creation(now,
                               {.type = klass::app,
                                .based_on = {},
                                .name = *domain_name::parse("work"),
                                .label = "red",
                                .where = {},
                                .creator = {}},
                               {.qid = 77, .uuid = fresh});
  ASSERT_TRUE(created.refusal);
  EXPECT_EQ(created.refusal->code, errc::vm_already_exists);

  EXPECT_EQ(plan_create_label(now, "tan", "0x112233").refusal->code, errc::label_in_use);
  auto label = plan_create_label(now, "green2", "0x112233");
  ASSERT_FALSE(label.refusal);
  EXPECT_EQ(std::get<add_label>(label.what.edits.at(0)).label.index, 13);
  EXPECT_EQ(
      plan_add_pool(now, {.name = "varlibqubes", .driver = "file", .attributes = {}}).refusal->code,
      errc::pool_in_use);
}

TEST(records_set_aside, keep_the_names_of_pools) {
  auto loaded = load(replace("</pools>", R"(<pool name="p" driver="floppy"/></pools>)")(good));
  ASSERT_TRUE(loaded);
  auto board = live_board{};
  auto machine = host{};
  auto plan = plan_add_pool({loaded->system, board, machine},
                            {.name = "p", .driver = "file", .attributes = {}});
  ASSERT_TRUE(plan.refusal);
  EXPECT_EQ(plan.refusal->code, errc::pool_in_use);
}

/// The value that stands in for a netvm that is gone must protect the domain as well.
TEST(repair, takes_the_network_from_a_domain_whose_netvm_is_gone) {
  auto loaded = load(set("work", "netvm", "sys-firewall", "sys-vpn")(good));
  ASSERT_TRUE(loaded);
  auto& work = *loaded->system.find("work");
  EXPECT_EQ(work.properties.at("netvm"), value{none{}});
  ASSERT_EQ(work.kept.size(), 1u);
  auto next = apply(loaded->system, host{}, {{set_property{"work", "netvm", "sys-net"}}});
  ASSERT_TRUE(next) << next.error().text;
  EXPECT_THAT(next->find("work")->kept, testing::IsEmpty());
}

TEST(repair, lets_the_last_of_two_values_hold) {
  auto loaded =
      load(both(add_property("work", "netvm", "sys-net"),
                in("work", "<features>", R"(<features><feature name="menu-items"/>)"))(good));
  ASSERT_TRUE(loaded);
  auto& work = *loaded->system.find("work");
  EXPECT_EQ(work.properties.at("netvm"), value{std::string{"sys-firewall"}});
  EXPECT_EQ(*work.features.find("menu-items"), "firefox.desktop xterm.desktop");
}

TEST(repair, passes_over_characters_that_mean_nothing_where_they_stand) {
  auto commented = load(in("work", "<features>", "<!-- R&D \xE9 --><features>")(good));
  ASSERT_TRUE(commented);
  EXPECT_TRUE(commented->system.find("work"));
  EXPECT_THAT(commented->findings, testing::IsEmpty());
  auto quoted = load(in("work", "firefox.desktop", "<![CDATA[a & b]]>")(good));
  ASSERT_TRUE(quoted);
  EXPECT_THAT(*quoted->system.find("work")->features.find("menu-items"),
              testing::HasSubstr("a & b"));
  auto lines = load(in("work", "firefox.desktop", "one\ntwo\tthree")(good));
  ASSERT_TRUE(lines);
  EXPECT_THAT(*lines->system.find("work")->features.find("menu-items"),
              testing::HasSubstr("one\ntwo\tthree"));
}

// -- damage that is mended ------------------------------------------------------------------------

TEST(repair, cuts_the_first_domain_of_a_network_loop) {
  auto text = set("sys-net", "netvm", "", "sys-firewall")(good);
  auto loaded = load(text);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->system.names(), served_without({}));
  EXPECT_EQ(loaded->system.find("sys-firewall")->properties.find("netvm")->second, value{none{}});
  EXPECT_EQ(loaded->system.find("sys-net")->properties.find("netvm")->second,
            value{"sys-firewall"});
  ASSERT_EQ(loaded->findings.size(), 1U);
  EXPECT_THAT(loaded->findings[0].text, testing::HasSubstr("sys-firewall"));
  EXPECT_THAT(line_of(text, loaded->findings[0].line), testing::HasSubstr("\"netvm\">sys-net<"));
  EXPECT_TRUE(loaded->migrated);
  expect_nothing_lost(text, *loaded);
}

TEST(repair, cuts_a_domain_that_is_its_own_netvm) {
  auto loaded = load(set("sys-net", "netvm", "", "sys-net")(good));
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->system.find("sys-net")->properties.find("netvm")->second, value{none{}});
  EXPECT_EQ(loaded->system.find("sys-firewall")->properties.find("netvm")->second,
            value{"sys-net"});
}

TEST(repair, cuts_a_loop_that_runs_through_the_default) {
  auto loaded = load(without("sys-firewall", "netvm", "sys-net")(good)); // its own default now
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->system.find("sys-firewall")->properties.find("netvm")->second, value{none{}});
  EXPECT_EQ(loaded->findings.size(), 1U);
}

TEST(repair, adds_a_bare_dom0_where_there_is_none) {
  auto loaded = load(replace(element_of("dom0", good), "")(good));
  ASSERT_TRUE(loaded);
  auto dom0 = loaded->system.find("dom0");
  ASSERT_TRUE(dom0);
  EXPECT_TRUE(dom0->properties.empty());
  EXPECT_TRUE(loaded->migrated);
  EXPECT_THAT(texts_of(loaded->findings), testing::ElementsAre(testing::HasSubstr("no dom0")));
}

TEST(repair, tells_of_a_netvm_that_provides_no_network_but_keeps_it) {
  auto loaded = load(set("work", "netvm", "sys-firewall", "dvm")(good));
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->system.find("work")->properties.find("netvm")->second, value{"dvm"});
  EXPECT_THAT(texts_of(loaded->findings), testing::ElementsAre(testing::HasSubstr("no network")));
  EXPECT_FALSE(loaded->migrated);
}

TEST(repair, leaves_a_domain_without_network_rather_than_unguarded) {
  auto loaded = load(replace(property("default_netvm", "sys-firewall"),
                             property("default_netvm", "sys-vpn"))(good));
  ASSERT_TRUE(loaded);
  auto v = view{loaded->system, no_live_facts(), host{}};
  EXPECT_FALSE(netvm_of(v, *loaded->system.find("dvm")));
  EXPECT_TRUE(netvm_of(v, *loaded->system.find("work")));
}

TEST(repair, serves_the_last_of_two_features) {
  auto loaded = load(
      in("dom0", "</features>", R"(<feature name="config.test">2</feature></features>)")(good));
  ASSERT_TRUE(loaded);
  EXPECT_EQ(*loaded->system.find("dom0")->features.find("config.test"), "2");
}

TEST(repair, keeps_damaged_entries_of_dom0) {
  auto text = in("dom0", "config.test", "config\x02test")(good);
  auto loaded = load(text);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->system.names(), served_without({}));
  EXPECT_THAT(loaded->system.find("dom0")->kept,
              testing::ElementsAre(testing::HasSubstr("config\x02test")));
  EXPECT_FALSE(loaded->system.find("dom0")->features.find("config.test"));
  expect_nothing_lost(text, *loaded);
}

// -- texts that are no store ----------------------------------------------------------------------

struct unusable_text {
  std::string kind;
  std::function<std::string()> text;
  std::string reason;
};

void PrintTo(const unusable_text& x, std::ostream* out) {
  *out << x.kind;
}

std::string repeated(std::string_view part, std::size_t times) {
  auto result = std::string{};
  result.reserve(part.size() * times);
  for (auto i = std::size_t{0}; i < times; ++i)
    result += part;
  return result;
}

std::string utf_16(const std::string& text) {
  auto result = std::string{"\xFF\xFE"};
  for (auto c : text)
    result += {c, '\0'};
  return result;
}

const auto laughs = std::string{
    "<!DOCTYPE lolz [<!ENTITY a \"lol\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]>\n"};

std::vector<unusable_text> unusable_texts() {
  return {
      {"empty", [] { return ""; }, "empty"},
      {"only_white_space", [] { return " \n\t\r\n "; }, "empty"},
      {"truncated", [] { return good.substr(0, good.size() / 2); }, "line"},
      {"truncated_inside_a_tag", [] { return good.substr(0, good.find("<volume") + 9); }, "tag"},
      {"truncated_before_the_end", [] { return good.substr(0, good.size() - 9); }, "line"},
      {"zero_filled", [] { return std::string(4096, '\0'); }, "zero bytes"},
      {"zeros_at_the_end", [] { return good + std::string(512, '\0'); }, "zero bytes"},
      {"utf_16", [] { return utf_16(good); }, "UTF-16"},
      {"an_executable",
       [] {
         return std::string{"\x7F"
                            "ELF\x02\x01\x01\x00\x00\x00",
                            10};
       },
       "zero"},
      {"another_encoding",
       [] {
         return "<?xml version='1.0' encoding='ISO-8859-1'?>\n"
                + replace("<qubes>", "<qubes><!-- caf\xE9 -->")(good);
       },
       "iso-8859-1"},
      {"no_xml", [] { return "All work and no play"; }, "XML"},
      {"json", [] { return "{\"labels\": []}"; }, "XML"},
      {"wrong_root", [] { return "<domains/>"; }, "'domains'"},
      {"two_roots", [] { return good + "<qubes/>"; }, "goes on"},
      {"mismatched_tags", [] { return replace("</labels>", "</pools>")(good); }, "XML"},
      {"document_type", [] { return "<!DOCTYPE qubes>" + good; }, "document type"},
      {"entity_expansion", [] { return laughs + replace(">work<", ">&b;<")(good); },
       "document type"},
      {"deep_nesting", [] { return repeated("<a>", 3 << 20); }, "XML"},
      {"deep_nesting_that_is_closed",
       [] { return "<qubes>" + repeated("<a>", 1 << 20) + repeated("</a>", 1 << 20) + "</qubes>"; },
       "deeper"},
      {"too_many_attributes",
       [] { return replace("<tags>", "<tags" + repeated(" a=\"1\"", 1 << 20) + ">")(good); },
       "attributes"},
      {"too_big", [] { return good + std::string(xml::max_bytes, ' '); }, "bytes"},
      {"unfinished_comment", [] { return "<qubes><!-- "; }, "XML"},
      {"unfinished_value", [] { return "<qubes a=\""; }, "XML"},
      {"end_before_begin", [] { return "</qubes>"; }, "XML"},
  };
}

struct no_store : testing::TestWithParam<unusable_text> {};

TEST_P(no_store, is_refused_with_its_reason) {
  auto loaded = load(GetParam().text());
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, errc::store);
  EXPECT_THAT(loaded.error().text, testing::HasSubstr(GetParam().reason));
  EXPECT_FALSE(loaded.error().hint.empty());
}

INSTANTIATE_TEST_SUITE_P(table, no_store, testing::ValuesIn(unusable_texts()),
                         [](auto& info) { return info.param.kind; });

TEST(limits, a_store_may_be_as_deep_as_its_deepest_element_and_a_bit_more) {
  auto nested = [](std::size_t depth) {
    return replace("</qubes>", repeated("<a>", depth) + repeated("</a>", depth) + "</qubes>")(good);
  };
  EXPECT_TRUE(load(nested(xml::max_depth - 1)));
  EXPECT_FALSE(load(nested(xml::max_depth)));
}

TEST(limits, as_many_attributes_as_may_be_are_read_at_once) {
  constexpr auto size = R"(size="2147483648")";
  for (auto one : {" note=\"&x;\"", " rw=\"True\""}) {
    auto loaded = load(in("work", size, size + repeated(one, xml::max_kept_attributes - 20))(good));
    ASSERT_TRUE(loaded) << loaded.error().text;
    EXPECT_EQ(loaded->findings.size(), 1U);
    EXPECT_TRUE(loaded->system.find("work")->find_volume("private"));
  }
}

TEST(limits, a_volume_with_very_many_attributes_is_kept_and_read_again) {
  constexpr auto size = R"(size="2147483648")";
  auto attributes = std::string{size};
  for (auto i = 0; i < xml::max_attributes - 10; ++i)
    attributes += fmt::format(" a{}=\"1\"", i);
  auto loaded = load(in("work", size, attributes)(good));
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->findings.size(), 1U);
  EXPECT_FALSE(loaded->system.find("work")->find_volume("private"));
  auto again = load(xml::save(loaded->system));
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_TRUE(again->system == loaded->system);
}

TEST(limits, of_very_many_findings_the_first_are_told) {
  auto many = std::string{};
  for (auto i = std::size_t{0}; i < 3 * xml::max_findings; ++i)
    many += "<odd/>";
  auto loaded = load(in("work", "<tags>", many + "<tags>")(good));
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(loaded->findings.size(), xml::max_findings + 1);
  EXPECT_EQ(loaded->findings.back().text, "2000 more things are wrong with it");
}

TEST(limits, a_huge_value_is_read_or_kept_but_never_cut) {
  auto huge = std::string(10 << 20, 'x');
  auto served = load(in("work", "firefox.desktop", huge)(good));
  ASSERT_TRUE(served);
  EXPECT_EQ(served->system.find("work")->features.find("menu-items")->size(),
            huge.size() + std::string{" xterm.desktop"}.size());
  auto kept = load(set("work", "label", "blue", huge)(good));
  ASSERT_TRUE(kept);
  EXPECT_THAT(kept->system.find("work")->kept, testing::ElementsAre(testing::HasSubstr(huge)));
  EXPECT_LT(kept->findings[0].text.size(), 1000U);
}

TEST(limits, a_domain_may_have_4096_features) {
  auto with = [](int count) {
    auto features = std::string{"<features>"};
    for (auto i = 0; i < count; ++i)
      features += fmt::format("<feature name=\"f{}\"/>", i);
    return in("far", "<features/>", features + "</features>")(good);
  };
  for (auto [count, kept] : {std::pair{4096, 0U}, std::pair{4097, 1U}}) {
    auto loaded = load(with(count));
    ASSERT_TRUE(loaded);
    EXPECT_EQ(loaded->system.find("far")->features.size(), 4096U);
    EXPECT_EQ(loaded->system.find("far")->kept.size(), kept);
  }
}

// -- any bytes at all -----------------------------------------------------------------------------

struct damaged_store : testing::TestWithParam<std::tuple<store, unsigned>> {};

/// Changes, drops, doubles or swaps some bytes of the file.
std::string mutilated(std::string text, std::mt19937& chance) {
  auto place = [&] { return chance() % text.size(); };
  for (auto cuts = 1 + chance() % 4; cuts > 0; --cuts) {
    auto at = place();
    auto length = 1 + chance() % 40;
    switch (chance() % 5) {
    case 0: text[at] = static_cast<char>(chance()); break;
    case 1: text.erase(at, length); break;
    case 2: text.insert(at, text.substr(place(), length)); break;
    case 3: text.replace(at, length, text.substr(place(), length)); break;
    default: text.insert(at, std::array{"<", ">", "\"", "&", "</a>", "<!--", "-->"}[chance() % 7]);
    }
  }
  return text;
}

/// Swaps the contents of two elements, which keeps the text well-formed.
std::string shuffled(std::string text, std::mt19937& chance) {
  for (auto swaps = 1 + chance() % 3; swaps > 0; --swaps) {
    auto part = [&] {
      auto begin = text.find('>', chance() % text.size());
      auto end = begin == text.npos ? begin : text.find_first_of("<>", begin + 1);
      return end == text.npos ? std::pair{text.size(), text.size()} : std::pair{begin + 1, end};
    };
    auto [from, from_end] = part();
    auto copy = text.substr(from, from_end - from);
    auto [to, to_end] = part();
    if (text.substr(to, 1) != "<")
      text.replace(to, to_end - to, copy);
  }
  return text;
}

void expect_sound(const std::string& text) {
  auto loaded = load(text);
  if (!loaded)
    return;
  EXPECT_THAT(violations(loaded->system, host{}), testing::IsEmpty()) << text;
  auto saved = xml::save(loaded->system);
  auto again = load(saved);
  ASSERT_TRUE(again) << again.error().message() << "\n" << text;
  EXPECT_TRUE(without_lines(again->system) == without_lines(loaded->system)) << text;
  EXPECT_EQ(xml::save(again->system), saved) << text;
}

TEST_P(damaged_store, never_crashes_and_the_served_part_is_valid_and_stays_the_same) {
  auto& [store, seed] = GetParam();
  auto chance = std::mt19937{seed};
  for (auto i = 0; i < 25 && !HasFailure(); ++i) {
    expect_sound(mutilated(store.text, chance));
    expect_sound(shuffled(store.text, chance));
  }
}

INSTANTIATE_TEST_SUITE_P(seeds, damaged_store,
                         testing::Combine(testing::ValuesIn(qubes::tests::all_stores()),
                                          testing::Range(0U, 20U)),
                         [](auto& info) {
                           return fmt::format("{}_{}", std::get<0>(info.param).name,
                                              std::get<1>(info.param));
                         });

TEST(damaged_store, every_prefix_of_a_store_is_refused_or_sound) {
  for (auto& store : qubes::tests::all_stores())
    for (auto size = std::size_t{0}; size < store.text.size(); size += 37)
      expect_sound(store.text.substr(0, size));
}

// -- one fact at a time ---------------------------------------------------------------------------

struct one_fact : testing::TestWithParam<store> {};

struct span {
  std::size_t begin;
  std::size_t size;
};

/// Every text of an element, and every value of an attribute.
std::vector<span> facts_of(const std::string& text) {
  auto result = std::vector<span>{};
  for (auto at = std::size_t{0}; at < text.size(); ++at) {
    if (text[at] != '"' && text[at] != '>')
      continue;
    auto end = text.find(text[at] == '"' ? '"' : '<', at + 1);
    if (end == text.npos)
      break;
    if (auto inside = text.substr(at + 1, end - at - 1);
        text[at] == '"' || inside.find_first_not_of(" \n") != text.npos)
      result.push_back({at + 1, end - at - 1});
    at = text[at] == '"' ? end : at;
  }
  return result;
}

/// Whether this fact says which domain a record is, or what the domain is made of: a domain may be
/// lost with it. A missing value counts as a value here: then nothing is made of the domain.
bool says_who_it_is(const std::string& text, const span& fact, std::string_view odd) {
  auto begin = text.rfind('\n', fact.begin) + 1;
  auto line = text.substr(begin, text.find('\n', begin) - begin);
  auto has = [&](std::string_view part) { return line.find(part) != line.npos; };
  auto is_name = text.substr(fact.begin, fact.size) == "template_for_dispvms";
  return has("<domain ") || has("\"name\">") || has("\"template\"")
         || (has("template_for_dispvms") && (is_name || odd.empty()));
}

/// All pairs take half a minute with a sanitizer: there each fact is tried with some of the texts,
/// and neighbours with different ones.
#ifdef __SANITIZE_ADDRESS__
constexpr auto stride = 4U;
#else
constexpr auto stride = 1U;
#endif

TEST_P(one_fact, that_is_unreadable_costs_no_domain) {
  auto& text = GetParam().text;
  auto turn = 0U;
  auto all_names = load(text)->system.names();
  for (auto& fact : facts_of(text))
    for (auto odd : {"", "a b", "\xC3\xA9", "&nope;", "&#1;", "-1", "a&#10;b"}) {
      if (turn++ % stride != 0)
        continue;
      auto damaged = std::string{text}.replace(fact.begin, fact.size, odd);
      auto loaded = load(damaged);
      ASSERT_TRUE(loaded) << loaded.error().text << "\n" << damaged;
      if (!says_who_it_is(text, fact, odd)) {
        ASSERT_EQ(loaded->system.names(), all_names)
            << odd << " for " << text.substr(fact.begin, fact.size) << " in line "
            << std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(fact.begin),
                          '\n')
                   + 1;
      }
      expect_sound(damaged);
      ASSERT_FALSE(HasFailure());
    }
}

INSTANTIATE_TEST_SUITE_P(stores, one_fact, testing::ValuesIn(qubes::tests::all_stores()),
                         [](auto& info) { return info.param.name; });

TEST(damaged_store, random_bytes_are_refused) {
  auto chance = std::mt19937{7};
  for (auto i = 0; i < 200; ++i) {
    auto text = std::string(chance() % 400, '\0');
    for (auto& c : text)
      c = static_cast<char>(1 + chance() % 255);
    EXPECT_FALSE(load(text));
  }
}

} // namespace
