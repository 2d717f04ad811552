#include "model/xml/qubes_xml.hpp"

#include "tests/model/canonical.hpp"
#include "tests/model/load.hpp"
#include "tests/model/stores.hpp"

#include "model/change/change.hpp"
#include "model/change/integrity.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace {

using namespace qubes::model;
using qubes::tests::canonical;
using qubes::tests::load;
using qubes::tests::read_file;

const auto golden = std::string{QVMD_SOURCE_DIR} + "/tests/golden/qubes/";
const auto recorded = std::string{QVMD_SOURCE_DIR} + "/tests/conformance/final/";

/// Loads text that must be a store.
xml::loaded read(const std::string& text) {
  auto loaded = load(text);
  EXPECT_TRUE(loaded) << loaded.error().message();
  return loaded ? std::move(*loaded) : xml::loaded{};
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

std::vector<std::string> stores_in(const std::string& directory) {
  auto names = std::vector<std::string>{};
  if (std::filesystem::exists(directory))
    for (auto& x : std::filesystem::directory_iterator{directory})
      names.push_back(x.path().string());
  std::ranges::sort(names);
  return names;
}

/// Whether the stock daemon wrote this store with tags of domains that were not used any more; it
/// mends them when it starts.
bool has_old_tags(const std::string& store) {
  return store.ends_with("/03_global_set.xml") || store.ends_with("/14_poison.xml");
}

void expect_kept_as_it_is(const std::string& text) {
  auto first = read(text);
  EXPECT_FALSE(first.migrated);
  EXPECT_TRUE(first.system.quarantine.empty());
  EXPECT_THAT(violations(first.system, host{}), testing::IsEmpty());
  auto saved = xml::save(first.system);
  // The stock daemon wrote values of features that cannot be used; such entries stand behind the
  // others here.
  auto& all = first.system.domains;
  if (std::ranges::all_of(all, [](auto& x) { return x->kept.empty(); })) {
    EXPECT_EQ(canonical(saved), canonical(text));
  }
  for (auto& x : all)
    for (auto& entry : x->kept)
      EXPECT_THAT(saved, testing::HasSubstr(entry));
  auto second = read(saved);
  EXPECT_TRUE(second.system == first.system);
  EXPECT_EQ(xml::save(second.system), saved);
}

// -- good stores ----------------------------------------------------------------------------------

struct good_store : testing::TestWithParam<std::string> {};

TEST_P(good_store, comes_out_as_it_went_in) {
  auto text = read_file(GetParam());
  EXPECT_THAT(read(text).findings, testing::IsEmpty());
  expect_kept_as_it_is(text);
}

INSTANTIATE_TEST_SUITE_P(golden, good_store, testing::ValuesIn(stores_in(golden)), [](auto& info) {
  return std::filesystem::path{info.param}.stem().string();
});

struct upgraded_store : testing::TestWithParam<qubes::tests::store> {};

/// After an upgrade the file is written in the form of this release.
TEST_P(upgraded_store, comes_out_in_the_form_of_now) {
  auto& text = GetParam().text;
  auto first = read(text);
  EXPECT_TRUE(first.migrated);
  auto domains = std::size_t{0};
  for (auto at = text.find("<domain "); at != text.npos; at = text.find("<domain ", at + 1))
    ++domains;
  EXPECT_EQ(first.system.domains.size(), domains);
  EXPECT_TRUE(first.system.quarantine.empty());
  for (auto& x : first.system.domains)
    EXPECT_THAT(x->kept, testing::IsEmpty()) << x->name.str();
  EXPECT_THAT(violations(first.system, host{}), testing::IsEmpty());
  expect_kept_as_it_is(xml::save(first.system));
}

/// Each class has the volumes that the stock daemon reads, and no others.
TEST_P(upgraded_store, has_volumes_as_its_classes_have_them) {
  auto store = read(GetParam().text).system;
  for (auto& x : store.domains)
    for (auto& it : x->volumes) {
      SCOPED_TRACE(x->name.str() + ":" + it.name);
      auto usual = default_volume(x->type, it.name);
      EXPECT_EQ(it.rw, usual.rw);
      EXPECT_EQ(it.save_on_stop, usual.save_on_stop);
      EXPECT_EQ(it.snap_on_start, usual.snap_on_start);
      EXPECT_EQ(it.source.empty(), !usual.snap_on_start);
    }
}

INSTANTIATE_TEST_SUITE_P(releases, upgraded_store,
                         testing::ValuesIn(qubes::tests::stores_of_releases()),
                         [](auto& info) { return info.param.name; });

TEST(qubes_xml, keeps_every_store_that_the_stock_daemon_wrote) {
  auto stores = stores_in(recorded);
  EXPECT_EQ(stores.size(), 14U);
  for (auto& store : stores) {
    SCOPED_TRACE(store);
    auto text = read_file(store);
    if (has_old_tags(store)) {
      auto mended = read(text);
      EXPECT_TRUE(mended.migrated);
      auto old = std::string{"-sys-net\"/>"};
      for (auto at = text.find(old); at != text.npos; at = text.find(old, at))
        if (text.rfind("<tag name=\"relayvm", at) != text.rfind("<tag name", at))
          text.replace(at, old.size(), "-dom0\"/>");
        else
          at += old.size();
    }
    expect_kept_as_it_is(text);
  }
}

TEST(qubes_xml, is_written_byte_for_byte_without_declaration_and_two_spaces_deep) {
  for (auto name : {"minimal", "network", "odd"}) {
    auto text = read_file(golden + name + ".xml");
    EXPECT_EQ(xml::save(read(text).system), text) << name;
  }
}

TEST(qubes_xml, reads_a_smallest_system_as_it_was_made) {
  auto made = make_system("/var/lib/qubes");
  auto loaded = read(xml::save(made));
  EXPECT_TRUE(loaded.system == made);
  EXPECT_FALSE(loaded.migrated);
}

TEST(qubes_xml, reads_every_part_of_a_domain) {
  auto store = read(read_file(golden + "network.xml")).system;
  auto work = store.find("work");
  ASSERT_TRUE(work);
  EXPECT_EQ(work->type, klass::app);
  EXPECT_EQ(work->qid, 4);
  EXPECT_EQ(work->uuid, "00000004-0000-4000-8000-000000000004");
  EXPECT_EQ(work->properties.find("memory")->second, value{std::int64_t{600}});
  EXPECT_EQ(work->properties.find("autostart")->second, value{true});
  EXPECT_EQ(work->properties.find("netvm")->second, value{"sys-firewall"});
  EXPECT_EQ(work->properties.find("label")->second, value{"blue"});
  EXPECT_EQ(store.find("sys-net")->properties.find("netvm")->second, value{none{}});
  EXPECT_EQ(work->tags, (tags{"audiovm-dom0", "corp", "guivm-dom0"}));
  EXPECT_EQ(*work->features.find("menu-items"), "firefox.desktop xterm.desktop");
  ASSERT_EQ(work->devices.size(), 2U);
  EXPECT_EQ(work->devices[0].name, "block");
  ASSERT_EQ(work->devices[0].assignments.size(), 2U);
  auto& asked = work->devices[0].assignments[1];
  EXPECT_EQ(asked.backend, "sys-net");
  EXPECT_EQ(asked.port, "sdb");
  EXPECT_EQ(asked.mode, assignment_mode::ask_to_attach);
  EXPECT_THAT(asked.options, testing::ElementsAre(testing::Pair("read-only", "yes")));
  EXPECT_TRUE(work->devices[1].assignments.empty());
  ASSERT_TRUE(work->find_volume("root"));
  EXPECT_EQ(work->find_volume("root")->source, "vm-templates/debian/root");
  EXPECT_EQ(work->find_volume("root")->size, std::uint64_t{10} << 30);
  EXPECT_TRUE(work->find_volume("root")->snap_on_start);
  EXPECT_FALSE(work->find_volume("root")->ephemeral);
}

TEST(qubes_xml, keeps_the_identity_of_dom0_out_of_the_file) {
  auto store = read(read_file(golden + "minimal.xml")).system;
  auto dom0 = store.find("dom0");
  ASSERT_TRUE(dom0);
  EXPECT_EQ(dom0->qid, 0);
  EXPECT_EQ(dom0->uuid, "00000000-0000-0000-0000-000000000000");
  EXPECT_EQ(dom0->properties.size(), 1U);
}

TEST(qubes_xml, lists_domains_by_name_whatever_their_order_in_the_file) {
  auto text = read_file(golden + "network.xml");
  auto begin = text.find("    <domain id=\"domain-4\"");
  auto end = text.find("  </domains>");
  auto work = text.substr(begin, end - begin);
  text.erase(begin, end - begin).insert(text.find("  <domains>\n") + 12, work);
  EXPECT_THAT(read(text).system.names(),
              testing::ElementsAre("dom0", "alone", "debian", "disp1234", "dvm", "far",
                                   "sys-firewall", "sys-net", "work"));
}

TEST(qubes_xml, survives_an_editor_that_lays_it_out_anew) {
  auto text = read_file(golden + "network.xml");
  auto expected = read(text).system;
  auto crlf = std::string{};
  for (auto c : text)
    crlf += c == '\n' ? std::string{"\r\n"} : std::string{c};
  EXPECT_TRUE(read(crlf).system == expected);
  EXPECT_TRUE(read("\xEF\xBB\xBF" + text).system == expected);
  EXPECT_TRUE(read("<?xml version='1.0' encoding='UTF-8'?>\n<!-- mine -->\n" + text).system
              == expected);
  auto open = replaced(text, "<property name=\"netvm\"></property>",
                       "<property name='netvm'>\n        </property>");
  EXPECT_TRUE(read(open).system == expected);
  auto cdata = replaced(text, ">firefox.desktop xterm.desktop<",
                        "><!-- a --><![CDATA[firefox.desktop]]> xterm.desktop<");
  EXPECT_TRUE(read(cdata).system == expected);
}

// -- old formats ----------------------------------------------------------------------------------

struct migration {
  const char* name;
  const char* from; ///< in network.xml
  const char* to;   ///< in an old store
  const char* back; ///< after the next save
};

void PrintTo(const migration& x, std::ostream* out) {
  *out << x.name;
}

struct old_format : testing::TestWithParam<migration> {};

TEST_P(old_format, is_brought_up_to_date) {
  auto text = read_file(golden + "network.xml");
  auto loaded = read(replaced(text, GetParam().from, GetParam().to));
  EXPECT_TRUE(loaded.migrated);
  EXPECT_TRUE(loaded.system.quarantine.empty()) << loaded.findings.front().text;
  EXPECT_EQ(canonical(xml::save(loaded.system)),
            canonical(replaced(text, GetParam().from, GetParam().back)));
}

// clang-format off
const migration migrations[]{
  {"label_by_reference",
   R"(<property name="label">blue</property>)",
   R"(<property name="label" ref="label-6"/>)",
   R"(<property name="label">blue</property>)"},
  {"label_by_index",
   R"(<property name="label">blue</property>)",
   R"(<property name="label">label-6</property>)",
   R"(<property name="label">blue</property>)"},
  {"domain_by_reference_attribute",
   R"(<property name="netvm">sys-firewall</property>)",
   R"(<property name="netvm" ref="sys-firewall">ignored</property>)",
   R"(<property name="netvm">sys-firewall</property>)"},
  {"old_gray",
   R"(color="0x555555")", R"(color="0x555753")", R"(color="0x555555")"},
  {"hvm",
   R"(<property name="virt_mode">hvm</property>)",
   R"(<property name="hvm">True</property>)",
   R"(<property name="virt_mode">hvm</property>)"},
  {"not_hvm",
   R"(<property name="virt_mode">hvm</property>)",
   R"(<property name="hvm">False</property>)",
   R"(<property name="virt_mode">pv</property>)"},
  {"disposables_allowed",
   R"(<property name="template_for_dispvms">True</property>)",
   R"(<property name="dispvm_allowed">True</property>)",
   R"(<property name="template_for_dispvms">True</property>)"},
  {"no_uuid",
   R"(<property name="uuid">00000004-0000-4000-8000-000000000004</property>)",
   "",
   R"(<property name="uuid">aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee</property>)"},
  {"required_device",
   R"(id="00_14.3" mode="required")",
   R"(id="00_14.3" required="True")",
   R"(id="00_14.3" mode="required")"},
  {"device_that_is_not_required",
   R"(id="00_14.3" mode="required")",
   R"(id="00_14.3" required="no")",
   R"(id="00_14.3" mode="auto-attach")"},
  {"default_dispvm_that_is_none",
   R"(<property name="default_dispvm">dvm</property>
        <property name="guivm">)",
   R"(<property name="default_dispvm">debian</property>
        <property name="guivm">)",
   R"(<property name="default_dispvm"></property>
        <property name="guivm">)"},
  {"management_dispvm_that_is_none",
   R"(<property name="management_dispvm">dvm</property>)",
   R"(<property name="management_dispvm">work</property>)",
   R"(<property name="management_dispvm"></property>)"},
  {"global_default_dispvm_that_is_none",
   R"(<property name="default_dispvm">dvm</property>)",
   R"(<property name="default_dispvm">work</property>)",
   R"(<property name="default_dispvm"></property>)"},
  {"missing_gui_tag",
   R"(<tag name="audiovm-dom0"/>
        <tag name="guivm-dom0"/>)",
   R"(<tag name="audiovm-dom0"/>)",
   R"(<tag name="audiovm-dom0"/>
        <tag name="guivm-dom0"/>)"},
  {"missing_relay_tag",
   R"(<tags>
        <tag name="relayvm-sys-net"/>
      </tags>)",
   "<tags/>",
   R"(<tags>
        <tag name="relayvm-sys-net"/>
      </tags>)"},
  {"old_default_for_netvms",
   R"(<property name="default_kernel">)",
   R"(<property name="default_fw_netvm">sys-net</property><property name="default_kernel">)",
   R"(<property name="default_kernel">)"},
};
// clang-format on

INSTANTIATE_TEST_SUITE_P(table, old_format, testing::ValuesIn(migrations),
                         [](auto& info) { return info.param.name; });

TEST(old_formats, identity_as_an_option_becomes_the_identity) {
  auto text =
      replaced(read_file(golden + "network.xml"), R"(<option name="no-strict-reset">True</option>)",
               R"(<option name="identity">0x8086:0x15bb::p020000</option>)");
  auto loaded = read(text);
  EXPECT_TRUE(loaded.migrated);
  auto& device = loaded.system.find("sys-net")->devices[0].assignments[0];
  EXPECT_EQ(device.identity, "0x8086:0x15bb::p020000");
  EXPECT_TRUE(device.options.empty());
}

TEST(old_formats, the_memory_balancing_service_becomes_maxmem) {
  auto text = read_file(golden + "network.xml");
  auto with = [&](const char* feature) {
    auto loaded = read(replaced(text, R"(<feature name="service.cups">1</feature>)", feature));
    EXPECT_TRUE(loaded.migrated);
    auto& work = *loaded.system.find("work");
    EXPECT_FALSE(work.features.find("service.meminfo-writer"));
    return work.properties.contains("maxmem") ? to_text(work.properties.find("maxmem")->second)
                                              : "default";
  };
  EXPECT_EQ(with(R"(<feature name="service.meminfo-writer"></feature>)"), "0");
  EXPECT_EQ(with(R"(<feature name="service.meminfo-writer">1</feature>)"), "3000")
      << "on is the default, and says nothing of the size";
  text = replaced(text, R"(<property name="maxmem">3000</property>)", "");
  EXPECT_EQ(with(R"(<feature name="service.meminfo-writer">1</feature>)"), "default");
  EXPECT_EQ(with(R"(<feature name="service.meminfo-writer"></feature>)"), "0");
}

TEST(old_formats, pci_devices_named_by_address_get_their_ports) {
  auto machine = host{};
  machine.pci.root_buses = {"0000:00"};
  machine.pci.ports = {{"0000:03:00.0", "00_1c.0-00_00.0"}};
  auto old = [&](const std::string& devices) {
    auto text =
        replaced(read_file(golden + "network.xml"), R"(<device backend-domain="dom0" id="00_14.3")",
                 devices + R"(<device backend-domain="dom0" id="00_14.3")");
    return xml::load(text, machine, qubes::tests::a_uuid);
  };
  auto loaded = old(R"(<device backend-domain="dom0" id="03_00.0"/>)");
  ASSERT_TRUE(loaded);
  EXPECT_TRUE(loaded->migrated);
  EXPECT_EQ(loaded->system.find("sys-net")->devices[0].assignments[0].port, "00_1c.0-00_00.0");
  EXPECT_THAT(xml::save(loaded->system), testing::HasSubstr(R"(id="00_1c.0-00_00.0")"));

  auto twice = old(R"(<device backend-domain="dom0" id="03_00.0"/>
                      <device backend-domain="dom0" id="00_1c.0-00_00.0"/>)");
  ASSERT_TRUE(twice);
  EXPECT_EQ(twice->system.find("sys-net")->devices[0].assignments.size(), 2U)
      << "both names are of one device";

  auto absent = old(R"(<device backend-domain="dom0" id="05_00.0"/>)");
  ASSERT_TRUE(absent);
  EXPECT_FALSE(absent->migrated);
  EXPECT_EQ(absent->system.find("sys-net")->devices[0].assignments[0].port, "05_00.0")
      << "the card may be back next time";
}

TEST(old_formats, an_old_default_netvm_goes_to_those_that_provide_network) {
  auto text = replaced(read_file(golden + "network.xml"),
                       R"(<property name="netvm">sys-net</property>)", "");
  text = replaced(text, R"(<property name="default_kernel">)",
                  R"(<property name="default_fw_netvm">sys-net</property>
    <property name="default_kernel">)");
  auto loaded = read(text);
  EXPECT_TRUE(loaded.migrated);
  EXPECT_EQ(loaded.system.find("sys-firewall")->properties.find("netvm")->second, value{"sys-net"});
  EXPECT_FALSE(loaded.system.find("dvm")->properties.contains("netvm"));
  EXPECT_FALSE(loaded.system.globals.contains("default_fw_netvm"));
}

TEST(old_formats, a_property_in_its_new_form_wins) {
  auto old = R"(<property name="hvm">False</property>)";
  auto now = R"(<property name="virt_mode">hvm</property>)";
  for (auto& both : {std::string{old} + now, std::string{now} + old}) {
    auto loaded = read(replaced(read_file(golden + "network.xml"), now, both));
    EXPECT_TRUE(loaded.system.quarantine.empty());
    EXPECT_EQ(loaded.system.find("alone")->properties.find("virt_mode")->second, value{"hvm"});
  }
}

TEST(old_formats, volumes_take_what_they_leave_out_from_their_class) {
  auto text = replaced(
      read_file(golden + "network.xml"),
      R"(vid="appvms/work/private" revisions_to_keep="1" rw="True" save_on_stop="True" snap_on_start="False" size="2147483648")",
      R"(vid="appvms/work/private" internal="True")");
  auto store = read(text).system;
  auto& kept = *store.find("work")->find_volume("private");
  EXPECT_TRUE(kept.rw && kept.save_on_stop && !kept.snap_on_start);
  EXPECT_EQ(kept.size, std::uint64_t{2} << 30);
  EXPECT_TRUE(kept.unknown.empty());
}

// -- the writer -----------------------------------------------------------------------------------

void change_memory(qubes::model::system& x, const char* name, std::int64_t memory) {
  auto changed = *x.find(name);
  changed.properties.insert_or_assign("memory", memory);
  x.put(std::make_shared<domain>(std::move(changed)));
}

TEST(qubes_xml_writer, writes_the_same_whether_it_remembers_or_not) {
  auto store = read(read_file(golden + "network.xml")).system;
  auto writer = xml::writer{};
  EXPECT_EQ(writer.write(store), xml::save(store));
  change_memory(store, "work", 1234);
  EXPECT_EQ(writer.write(store), xml::save(store));
  EXPECT_NE(writer.write(store).find(">1234<"), std::string::npos);
  store.remove("disp1234");
  EXPECT_EQ(writer.write(store), xml::save(store));
  store.labels.push_back({10, "0x123456", "tenth"});
  store.globals["stats_interval"] = std::int64_t{7};
  EXPECT_EQ(writer.write(store), xml::save(store));
}

TEST(qubes_xml_writer, does_not_mistake_a_new_domain_for_a_removed_one_of_its_name) {
  auto store = read(read_file(golden + "network.xml")).system;
  auto writer = xml::writer{};
  writer.write(store);
  auto fresh = *store.find("disp1234");
  store.remove("disp1234");
  writer.write(store);
  fresh.tags.insert("fresh");
  store.put(std::make_shared<domain>(std::move(fresh)));
  EXPECT_EQ(writer.write(store), xml::save(store));
}

TEST(qubes_xml_writer, renders_only_what_changed) {
  auto store = read(read_file(golden + "network.xml")).system;
  auto base = *store.find("work");
  for (auto i = 10; i < 1010; ++i) {
    base.name = *domain_name::parse(fmt::format("vm{}", i));
    base.qid = i;
    store.put(std::make_shared<domain>(base));
  }
  auto writer = xml::writer{};
  auto time = [&] {
    auto begin = std::chrono::steady_clock::now();
    writer.write(store);
    return std::chrono::steady_clock::now() - begin;
  };
  auto cold = time();
  auto warm = std::chrono::steady_clock::duration::max();
  for (auto i = 0; i < 20; ++i) {
    change_memory(store, "vm500", 400 + i);
    warm = std::min(warm, time());
  }
  EXPECT_LT(warm * 4, cold);
}

} // namespace
