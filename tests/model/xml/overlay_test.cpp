// A site's changes of a domain's XML: the changes that guides ask for, and what is refused.
#include "model/xml/overlay.hpp"

#include "model/xml/renderer.hpp"
#include "tests/model/sample.hpp"
#include "tests/model/schema_check.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pugixml.hpp>

#include <fstream>
#include <sstream>
#include <string>

namespace qubes::model::xml {

namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr auto own = R"(<domain type="xen">
  <name>work</name>
  <uuid>7db78950-c373-4e32-b6a6-4c4e7e4a3fd1</uuid>
  <vcpu placement="static">2</vcpu>
  <cpu mode="host-passthrough">
    <feature name="vmx" policy="disable"/>
    <feature name="svm" policy="disable"/>
  </cpu>
  <os><type arch="x86_64" machine="xenfv">hvm</type><loader type="rom">hvmloader</loader></os>
  <features><pae/><acpi/></features>
  <clock offset="utc" adjustment="reset"/>
  <devices>
    <disk type="block" device="disk"><source dev="/dev/a"/><target dev="xvda"/></disk>
    <disk type="block" device="disk"><source dev="/dev/b"/><target dev="xvdb"/></disk>
    <interface type="ethernet"><mac address="00:16:3e:5e:6c:00"/><ip address="10.137.0.12"/></interface>
    <input type="tablet" bus="usb"/>
    <video><model type="vga"/></video>
    <console type="pty"><target type="xen" port="0"/></console>
  </devices>
</domain>)";

/// The text without blanks between elements.
std::string compact(const std::string& text) {
  auto document = pugi::xml_document{};
  document.load_string(text.c_str());
  auto out = std::ostringstream{};
  document.save(out, "", pugi::format_raw | pugi::format_no_declaration);
  return out.str();
}

/// The elements inside <domain>, merged.
std::string merged(const std::string& inside) {
  auto result = merge_overlay(own, "<domain>" + inside + "</domain>");
  return result ? compact(result->text) : "refused: " + result.error().text;
}

/// A domain with an interface and disks, as qvmd writes it.
std::string domain_in(const std::string& mode) {
  auto host = tests::sample{};
  host.set("work", "virt_mode", mode);
  host.set("work", "kernel", std::string{"6.1"});
  host.system.pools.push_back({"vols", "lvm_thin", {{"name", "vols"}, {"volume_group", "vg"}}});
  host.edit("work", [](auto& x) {
    x.uuid = "7db78950-c373-4e32-b6a6-4c4e7e4a3fd1";
    for (auto name : {"root", "private"}) {
      auto& it = x.volumes.emplace_back();
      it.name = name;
      it.pool = "vols";
      it.vid = fmt::format("vg/vm-work-{}", name);
      it.rw = true;
    }
  });
  auto text = render(gather(host.view, host["work"]));
  EXPECT_TRUE(text) << text.error().message();
  return text.value_or("");
}

struct guide {
  const char* request;
  const char* inside;
  const char* expected; ///< part of the result
  const char* gone;     ///< not in the result
};

} // namespace

TEST(overlay, does_what_guides_ask_for) {
  constexpr auto nothing = "there is no such text";
  constexpr guide guides[]{
      {"nested virtualisation", R"(<cpu><feature name="vmx" policy="require"/></cpu>)",
       R"(<cpu mode="host-passthrough"><feature name="vmx" policy="require"/><feature name="svm" policy="disable"/></cpu>)",
       R"(name="vmx" policy="disable")"},
      {"SLIC table", R"(<os><acpi><table type="slic">/usr/share/slic.bin</table></acpi></os>)",
       R"(<loader type="rom">hvmloader</loader><acpi><table type="slic">/usr/share/slic.bin</table></acpi></os>)",
       nothing},
      {"serial console", R"(<devices><serial type="pty"><target port="0"/></serial></devices>)",
       R"(<serial type="pty"><target port="0"/></serial></devices>)", nothing},
      {"certain host CPUs", R"(<vcpu cpuset="2-5"/>)",
       R"(<vcpu placement="static" cpuset="2-5">2</vcpu>)", nothing},
      {"pinned CPUs",
       R"(<cputune><vcpupin vcpu="0" cpuset="2"/><vcpupin vcpu="1" cpuset="3"/></cputune>)",
       R"(<cputune><vcpupin vcpu="0" cpuset="2"/><vcpupin vcpu="1" cpuset="3"/></cputune>)",
       nothing},
      {"the host's memory map", R"(<features><xen><e820_host state="on"/></xen></features>)",
       R"(<features><pae/><acpi/><xen><e820_host state="on"/></xen></features>)", nothing},
      {"e1000", R"(<devices><interface><model type="e1000"/></interface></devices>)",
       R"(<ip address="10.137.0.12"/><model type="e1000"/></interface>)", nothing},
      {"disks on IDE",
       R"(<devices><disk qvmd:which="xvda"><target dev="hda" bus="ide"/></disk></devices>)",
       R"(<source dev="/dev/a"/><target dev="hda" bus="ide"/></disk><disk)", R"(dev="xvda")"},
      {"another disk", R"(<devices><disk type="file"><target dev="xvdi"/></disk></devices>)",
       R"(<target dev="xvdb"/></disk><disk type="file"><target dev="xvdi"/></disk><interface)",
       nothing},
      {"no tablet", R"(<devices><input type="tablet" qvmd:remove="yes"/></devices>)", "<video>",
       "tablet"},
      {"local time", R"(<clock offset="localtime"/>)", R"(<clock offset="localtime"/>)", "utc"},
      {"the same clock", R"(<clock offset="utc"/>)", R"(<clock adjustment="reset" offset="utc"/>)",
       nothing},
      {"a clock of its own", R"(<clock offset="variable" basis="localtime" adjustment="60"/>)",
       R"(<clock offset="variable" basis="localtime" adjustment="60"/>)", "reset"},
      {"another video card", R"(<devices><video><model type="cirrus"/></video></devices>)",
       R"(<video><model type="cirrus"/></video>)", "vga"},
      {"two devices of the host", R"(<devices><hostdev a="1"/><hostdev a="2"/></devices>)",
       R"(<hostdev a="1"/><hostdev a="2"/></devices>)", nothing},
  };
  for (auto& x : guides)
    EXPECT_THAT(merged(x.inside),
                AllOf(HasSubstr(x.expected), Not(HasSubstr(x.gone)), Not(HasSubstr("qvmd:"))))
        << x.request;
}

/// The table of docs/libvirt-overlay.md: request and overlay, and "hvm" where the overlay is for
/// hvm only.
TEST(overlay, of_the_guides_fits_the_schema_in_every_mode) {
  if (!tests::can_check_schemas())
    GTEST_SKIP() << "xmllint or libvirt's schema is not installed (libxml2-utils, libvirt0)";
  auto file = std::ifstream{QVMD_SOURCE_DIR "/docs/libvirt-overlay.md"};
  auto as_written = tests::schema_folder{};
  auto as_checked = tests::schema_folder{};
  auto guides = 0;
  for (auto line = std::string{}; std::getline(file, line);) {
    auto begin = line.find("| `<");
    auto end = line.find("` |", begin + 2);
    if (begin == line.npos || end == line.npos)
      continue;
    auto request = line.substr(2, begin - 3);
    auto overlay = "<domain>" + line.substr(begin + 3, end - begin - 3) + "</domain>";
    auto of_hvm = request.ends_with(" (hvm)");
    for (std::string mode : {"pvh", "hvm", "pv"}) {
      if (of_hvm && mode != "hvm")
        continue;
      auto text = domain_in(mode);
      auto result = merge_overlay(text, overlay);
      ASSERT_TRUE(result) << request << ' ' << mode << ": " << result.error().text;
      EXPECT_THAT(result->skipped, testing::IsEmpty()) << request << ' ' << mode;
      EXPECT_NE(compact(result->text), compact(text)) << request << ' ' << mode;
      as_written.add(fmt::format("{:02}-{}", guides, mode), result->text);
      as_checked.add(fmt::format("{:02}-{}", guides, mode), for_schema(result->text));
    }
    ++guides;
  }
  EXPECT_GE(guides, 12);
  EXPECT_EQ(as_written.complaints(tests::xen_schema), "");
  EXPECT_EQ(as_checked.complaints(tests::stock_schema), "");
}

/// The elements that the test removes, because the schema does not have them, hide no other
/// mistake.
TEST(overlay, with_a_mistake_does_not_fit_the_schema_in_any_mode) {
  if (!tests::can_check_schemas())
    GTEST_SKIP() << "xmllint or libvirt's schema is not installed (libxml2-utils, libvirt0)";
  for (auto* inside :
       {"<cpu><feature name='vmx' policy='requir'/></cpu>", "<clock offset='local'/>",
        "<os><loader type='rim'/></os>", "<devices><emulator nonsense='x'/></devices>",
        "<devices><graphics type='qubes2'/></devices>", "<vcpus>2</vcpus>",
        "<devices><hostdev type='pci' strict='no'/></devices>"})
    for (std::string mode : {"pvh", "hvm", "pv"}) {
      auto result = merge_overlay(domain_in(mode), fmt::format("<domain>{}</domain>", inside));
      ASSERT_TRUE(result) << result.error().text;
      auto folder = tests::schema_folder{};
      folder.add("it", for_schema(result->text));
      EXPECT_NE(folder.complaints(tests::stock_schema), "") << inside << ' ' << mode;
    }
}

TEST(overlay, leaves_alone_what_it_does_not_name) {
  EXPECT_EQ(merged(""), compact(own));
  EXPECT_EQ(merged("<devices/>"), compact(own));
  EXPECT_EQ(merged("<!-- nothing --><vcpu>\n</vcpu>"), compact(own));
}

TEST(overlay, leaves_out_and_reports_changes_of_absent_parts) {
  constexpr auto bare = R"(<domain type="xen"><devices><emulator/></devices></domain>)";
  constexpr std::pair<const char*, const char*> table[]{
      {R"(<devices><interface><model type="e1000"/></interface></devices>)",
       "domain/devices/interface"},
      {R"(<devices><disk><driver name="qemu"/></disk></devices>)", "domain/devices/disk"},
  };
  for (auto& [inside, told] : table) {
    auto result = merge_overlay(bare, fmt::format("<domain>{}</domain>", inside));
    ASSERT_TRUE(result) << result.error().text;
    EXPECT_EQ(compact(result->text), bare) << inside;
    EXPECT_THAT(result->skipped, testing::ElementsAre(HasSubstr(told)));
  }
  auto fits = merge_overlay(own, "<domain><vcpu>3</vcpu></domain>");
  ASSERT_TRUE(fits);
  EXPECT_THAT(fits->skipped, testing::IsEmpty());
}

TEST(overlay, leaves_no_mark_in_what_it_adds) {
  EXPECT_THAT(merged(R"(<devices><sound model="ich6"><codec type="micro" qvmd:which="z"/>)"
                     R"(<codec type="duplex" qvmd:remove="yes"/></sound></devices>)"),
              HasSubstr(R"(<sound model="ich6"><codec type="micro"/></sound>)"));
  EXPECT_THAT(merged(R"(<x xmlns:qvmd="urn:qvmd"/>)"), Not(HasSubstr("qvmd")));
}

TEST(overlay, is_refused_with_its_reason) {
  auto reason = [](const std::string& text) {
    auto result = merge_overlay(own, text);
    return result ? "accepted" : result.error().text;
  };
  EXPECT_THAT(reason("<domain><cpu>"), HasSubstr("no well-formed XML"));
  EXPECT_THAT(reason(""), HasSubstr("empty"));
  EXPECT_THAT(reason("{% extends 'libvirt/xen.xml' %}"), HasSubstr("no well-formed XML"));
  EXPECT_THAT(reason("<domain><devices><disk qvmd:which='xvdz'/></devices></domain>"),
              AllOf(HasSubstr("domain/devices/disk"), HasSubstr("xvdz")));
  EXPECT_THAT(reason("<domain><devices><sound qvmd:remove='yes'/></devices></domain>"),
              HasSubstr("domain/devices/sound"));
  EXPECT_THAT(reason("<domain/><domain><vcpu>1</vcpu></domain>"), HasSubstr("goes on after"));
  EXPECT_THAT(reason("<domain><description>a & b</description></domain>"), HasSubstr("&"));
  EXPECT_THAT(reason("<domain>\n<description>a&nbsp;b</description></domain>"),
              AllOf(HasSubstr("line 2"), HasSubstr("&nbsp;")));
  EXPECT_THAT(reason("<domain><clock offset='utc' offset='localtime'/></domain>"),
              AllOf(HasSubstr("domain/clock"), HasSubstr("offset")));
  EXPECT_THAT(reason("<domain><clock qvmd:remove='no'/></domain>"),
              AllOf(HasSubstr("domain/clock"), HasSubstr("'no'")));
  EXPECT_THAT(reason("<domain><clock qvmd:delete='yes'/></domain>"), HasSubstr("qvmd:delete"));
  EXPECT_THAT(reason("<domain><qvmd:clock/></domain>"), HasSubstr("qvmd:clock"));
  EXPECT_THAT(reason("<network/>"), HasSubstr("<network>"));
  EXPECT_THAT(reason("<!DOCTYPE d [<!ENTITY e SYSTEM '/etc/shadow'>]><domain/>"),
              HasSubstr("document type"));
  EXPECT_THAT(reason("<domain><name>vault</name></domain>"), HasSubstr("name"));
  EXPECT_THAT(reason("<domain><uuid>1</uuid></domain>"), HasSubstr("uuid"));
  EXPECT_THAT(reason("<domain>" + std::string(max_overlay_bytes, ' ') + "</domain>"),
              HasSubstr("bytes"));
  auto deep = std::string{};
  for (auto i = 0; i < 500; ++i)
    deep += "<a>";
  for (auto i = 0; i < 500; ++i)
    deep += "</a>";
  EXPECT_NE(reason("<domain>" + deep + "</domain>"), "");
}

} // namespace qubes::model::xml
