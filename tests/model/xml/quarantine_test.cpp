// Damaged stores: what is still served, what is said about the rest, and that nothing is lost.
#include "model/xml/qubes_xml.hpp"

#include "tests/model/canonical.hpp"
#include "tests/model/load.hpp"

#include "model/change/change.hpp"
#include "model/change/creation.hpp"
#include "model/change/integrity.hpp"
#include "model/change/plan.hpp"
#include "model/change/plan_storage.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <sstream>

namespace {

using namespace qubes::model;
using qubes::tests::load;
using qubes::tests::read_file;

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

/// Replaces inside one domain only.
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
  std::string record;            ///< the name of what is set aside, "" when nothing is
  std::string reason;            ///< part of what is said about it
  section where = section::domains;
};

void PrintTo(const damaged& x, std::ostream* out) {
  *out << x.kind;
}

const auto nobody = std::vector<std::string>{};
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
      {"duplicate_name", twin("work", both(other_qid, other_uuid)), nobody, "work", "same name"},
      {"two_names", add_property("work", "name", "play"), only_work, "play", "twice"},
      {"two_dom0s", twin("dom0", [](auto x) { return x; }), nobody, "dom0", "same name"},
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
      {"label_without_id", replace(R"( id="label-9")", ""), nobody, "sky", "label-",
       section::labels},
      {"label_with_bad_id", replace("label-9", "label-nine"), nobody, "sky", "label-nine",
       section::labels},
      {"label_with_bad_color", replace("0x00c0ff", "blue"), nobody, "sky", "blue", section::labels},
      {"label_without_name", replace(">sky<", "><"), nobody, "label-9", "name", section::labels},
      {"duplicate_label_index", replace("label-9", "label-8"), nobody, "sky", "index 8",
       section::labels},
      {"duplicate_label_name",
       replace("</labels>", R"(<label id="label-10" color="0x000001">sky</label></labels>)"),
       nobody, "sky", "same name", section::labels},
      {"damaged_default_label", replace("0xcc0000", "red"), nobody, "red", "color",
       section::labels},
      {"label_with_the_name_of_one_and_the_index_of_another",
       replace(R"(<label id="label-1" color="0xcc0000">)", R"(<label id="label-2" color="">)"),
       nobody, "red", "color", section::labels},
      {"default_label_before_its_damaged_double",
       replace("<labels>", R"(<labels><label id="label-1" color="">sky</label>)"), nobody, "sky",
       "color", section::labels},
      {"unknown_element_among_labels", replace("</labels>", "<sticker/></labels>"), nobody,
       "sticker", "sticker", section::labels},
      // pools
      {"unknown_pool_driver", replace("</pools>", R"(<pool name="p" driver="floppy"/></pools>)"),
       nobody, "p", "floppy", section::pools},
      {"missing_pool_attribute",
       replace("</pools>", R"(<pool name="p" driver="lvm_thin" volume_group="x"/></pools>)"),
       nobody, "p", "thin_pool", section::pools},
      {"pool_without_name", replace("</pools>", R"(<pool driver="file" dir_path="/x"/></pools>)"),
       nobody, "", "name", section::pools},
      {"pool_name_that_leaves_its_directory",
       replace("</pools>", R"(<pool name="../p" driver="file" dir_path="/x"/></pools>)"), nobody,
       "../p", "../p", section::pools},
      {"duplicate_pool",
       replace("</pools>", R"(<pool name="varlibqubes" driver="file" dir_path="/x"/></pools>)"),
       nobody, "varlibqubes", "same name", section::pools},
      {"pool_attribute_given_twice",
       replace("</pools>", R"(<pool name="p" driver="file" dir_path="/x" dir_path="/y"/></pools>)"),
       nobody, "p", "dir_path", section::pools},
      {"damaged_pool_in_use",
       replace(R"(driver="file-reflink")", R"(driver="floppy")"),
       {},
       "varlibqubes",
       "floppy",
       section::pools},
      // global properties
      {"dangling_default_netvm",
       replace(property("default_netvm", "sys-firewall"), property("default_netvm", "gone")),
       nobody, "default_netvm", "gone", section::properties},
      {"default_netvm_without_network",
       replace(property("default_netvm", "sys-firewall"), property("default_netvm", "far")), nobody,
       "default_netvm", "far", section::properties},
      {"default_template_of_wrong_class",
       replace(property("default_template", "debian"), property("default_template", "work")),
       nobody, "default_template", "work", section::properties},
      {"default_pool_that_is_gone",
       replace(property("default_pool_kernel", "linux-kernel"),
               property("default_pool_kernel", "gone")),
       nobody, "default_pool_kernel", "gone", section::properties},
      {"unknown_global_property",
       replace("  </properties>\n  <domains>", property("colour", "x") + "</properties><domains>"),
       nobody, "colour", "no such property", section::properties},
      {"computed_global_property",
       replace("  </properties>\n  <domains>", property("no_cpus", "4") + "</properties><domains>"),
       nobody, "no_cpus", "no such property", section::properties},
      {"bad_global_integer",
       replace("  </properties>\n  <domains>",
               property("stats_interval", "x") + "</properties><domains>"),
       nobody, "stats_interval", "x", section::properties},
      {"global_property_given_twice",
       replace("  </properties>\n  <domains>",
               property("default_kernel", "x") + "</properties><domains>"),
       nobody, "default_kernel", "twice", section::properties},
      // the document
      {"unknown_section", replace("</qubes>", "<planets><planet/></planets></qubes>"), nobody,
       "planets", "planets", section::document},
      {"unknown_element_among_domains", replace("</domains>", "<robot/></domains>"), nobody,
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

/// What holds after every load that succeeds: nothing is lost and the next load says the same.
void expect_nothing_lost(const std::string& text, const xml::loaded& first) {
  for (auto& x : first.system.quarantine) {
    EXPECT_NE(line_of(text, x.line).find(first_line(x.xml)), std::string::npos)
        << x.line << ": " << x.xml;
    EXPECT_FALSE(x.reason.empty());
  }
  auto saved = xml::save(first.system);
  for (auto& x : first.system.quarantine)
    EXPECT_NE(saved.find(x.xml), std::string::npos) << x.xml;
  for (auto& x : first.system.domains)
    for (auto& y : x->kept)
      EXPECT_NE(saved.find(y), std::string::npos) << y;
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
      {"duplicate_assignment",
       in("work", a_device, a_device + R"( mode="required"/>)" + a_device),
       {},
       "work",
       "twice"},
      {"option_without_name",
       in("work", R"(<option name="read-only">)", "<option>"),
       {},
       "work",
       "option"},
      {"option_given_twice",
       in("work", R"(<option name="read-only">yes</option>)",
          R"(<option name="read-only">yes</option><option name="read-only">no</option>)"),
       {},
       "work",
       "read-only"},
      {"option_that_is_none_of_a_disk",
       in("work", R"(<option name="read-only">yes)", R"(<option name="read-only">perhaps)"),
       {},
       "work",
       "perhaps"},
      {"option_of_two_lines",
       in("work", R"(<option name="read-only">yes)", "<option name=\"note\">a&#10;b"),
       {},
       "work",
       "note"},
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
      {"latin_1",
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
      {"too_big", [] { return good + std::string(xml::max_bytes, ' '); }, "bytes"},
      {"unfinished_comment", [] { return "<qubes><!-- "; }, "XML"},
      {"unfinished_value", [] { return "<qubes a=\""; }, "XML"},
      {"end_before_begin", [] { return "</qubes>"; }, "XML"},
  };
}

struct no_store : testing::TestWithParam<hopeless> {};

TEST_P(no_store, is_refused_with_its_reason) {
  auto loaded = load(GetParam().text());
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, errc::store);
  EXPECT_THAT(loaded.error().text, testing::HasSubstr(GetParam().reason));
  EXPECT_FALSE(loaded.error().hint.empty());
}

INSTANTIATE_TEST_SUITE_P(table, no_store, testing::ValuesIn(hopeless_texts()),
                         [](auto& info) { return info.param.kind; });

TEST(limits, a_store_may_be_as_deep_as_its_deepest_element_and_a_bit_more) {
  auto nested = [](std::size_t depth) {
    return replace("</qubes>", repeated("<a>", depth) + repeated("</a>", depth) + "</qubes>")(good);
  };
  EXPECT_TRUE(load(nested(xml::max_depth - 1)));
  EXPECT_FALSE(load(nested(xml::max_depth)));
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

struct mutilation : testing::TestWithParam<unsigned> {};

/// Some bytes of the file are changed, dropped, doubled or swapped with others of it.
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

TEST_P(mutilation, never_crashes_and_what_is_served_is_sound_and_stays) {
  auto chance = std::mt19937{GetParam()};
  for (auto i = 0; i < 25 && !HasFailure(); ++i) {
    expect_sound(mutilated(good, chance));
    expect_sound(shuffled(good, chance));
  }
}

INSTANTIATE_TEST_SUITE_P(seeds, mutilation, testing::Range(0U, 20U));

TEST(mutilation, every_prefix_of_a_store_is_refused_or_sound) {
  for (auto size = std::size_t{0}; size < good.size(); size += 37)
    expect_sound(good.substr(0, size));
}

TEST(mutilation, random_bytes_are_refused) {
  auto chance = std::mt19937{7};
  for (auto i = 0; i < 200; ++i) {
    auto text = std::string(chance() % 400, '\0');
    for (auto& c : text)
      c = static_cast<char>(1 + chance() % 255);
    EXPECT_FALSE(load(text));
  }
}

} // namespace
