// A site's changes of a domain's XML: what guides ask for, and what is refused.
#include "model/xml/overlay.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pugixml.hpp>

#include <sstream>

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

/// Without blanks between elements.
std::string compact(const std::string& text) {
  auto document = pugi::xml_document{};
  document.load_string(text.c_str());
  auto out = std::ostringstream{};
  document.save(out, "", pugi::format_raw | pugi::format_no_declaration);
  return out.str();
}

/// Of what stands inside <domain>.
std::string merged(const std::string& inside) {
  auto result = merge_overlay(own, "<domain>" + inside + "</domain>");
  return result ? compact(result->text) : "refused: " + result.error().text;
}

struct guide {
  const char* wish;
  const char* inside;
  const char* expected; ///< is in the result
  const char* gone;     ///< is not
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
      {"local time", R"(<clock offset="localtime"/>)",
       R"(<clock adjustment="reset" offset="localtime"/>)", "utc"},
      {"another video card", R"(<devices><video><model type="cirrus"/></video></devices>)",
       R"(<video><model type="cirrus"/></video>)", "vga"},
      {"two devices of the host", R"(<devices><hostdev a="1"/><hostdev a="2"/></devices>)",
       R"(<hostdev a="1"/><hostdev a="2"/></devices>)", nothing},
  };
  for (auto& x : guides)
    EXPECT_THAT(merged(x.inside),
                AllOf(HasSubstr(x.expected), Not(HasSubstr(x.gone)), Not(HasSubstr("qvmd:"))))
        << x.wish;
}

TEST(overlay, leaves_alone_what_it_does_not_name) {
  EXPECT_EQ(merged(""), compact(own));
  EXPECT_EQ(merged("<devices/>"), compact(own));
  EXPECT_EQ(merged("<!-- nothing --><vcpu>\n</vcpu>"), compact(own));
}

TEST(overlay, leaves_out_what_speaks_of_absent_parts_and_tells_it) {
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
