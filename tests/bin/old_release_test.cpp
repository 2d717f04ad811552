// Machines that were upgraded from earlier releases: their files, buses and domains.
#include "tests/bin/scripted_snapshots.hpp"
#include "tests/bin/served_state.hpp"

#include <gmock/gmock.h>

#include <algorithm>

namespace qubes {

namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string with(std::string text, const std::string& from, const std::string& to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

/// A laptop: the network card and one USB controller on the root bus, a WiFi card behind one
/// bridge, and another USB controller behind three.
struct old_machine : ::testing::Test, served_state {
  void become(const std::string& release, const std::string& kernel) {
    auto files = fs::path{QVMD_SOURCE_DIR} / "tests/golden/releases" / release;
    fs::remove_all(top / "state");
    auto text = with(read_file(files / "qubes.xml"), "@STATE@", (top / "state").string());
    make_volumes(text);
    write_file(top / "state/qubes.xml", text);
    fs::create_directories(top / "state/vm-kernels" / kernel);
    for (auto part : {"vmlinuz", "initramfs", "modules.img"})
      write_file(top / "state/vm-kernels" / kernel / part, "");
    bridge("0000:00:1c.0", 3);
    bridge("0000:00:1b.0", 4);
    bridge("0000:00:1b.0/0000:04:00.0", 5);
    bridge("0000:00:1b.0/0000:04:00.0/0000:05:02.0", 7);
    for (auto place :
         {"0000:00:14.0", "0000:00:19.0", "0000:00:1a.0", "0000:00:1f.6",
          "0000:00:1c.0/0000:03:00.0", "0000:00:1b.0/0000:04:00.0/0000:05:02.0/0000:07:00.1"})
      device(place);
    write_file(top / "node.xml",
               "<node><cpu><mhz>1000</mhz><model>x86_64</model><active>2</active><nodes>1</nodes>"
               "<sockets>1</sockets><cores>2</cores><threads>1</threads></cpu>"
               "<memory>16777216</memory>"
               "<device><name>computer</name><capability type='system'><hardware><uuid>"
               "11111111-2222-3333-4444-555555555555</uuid></hardware><firmware/></capability>"
               "</device>"
                   + node_ + "</node>");
    write_file(config(), with(read_file(config()), "test:///default",
                              fmt::format("test://{}", (top / "node.xml").string())));
  }

  /// An image for every volume that keeps data.
  void make_volumes(const std::string& text) const {
    for (auto at = text.find(" vid=\""); at != std::string::npos;
         at = text.find(" vid=\"", at + 1)) {
      auto begin = at + 6;
      auto vid = text.substr(begin, text.find('"', begin) - begin);
      if (vid.find('/') == std::string::npos)
        continue;
      auto image = top / "state" / (vid + ".img");
      fs::create_directories(image.parent_path());
      write_file(image, "");
      fs::resize_file(image, vid.ends_with("root") ? 8 << 20 : 2 << 20);
    }
  }

  void bridge(const std::string& place, int secondary) {
    auto here = link(place);
    write_file(here / "secondary_bus_number", fmt::format("{}\n", secondary));
  }

  void device(const std::string& place) {
    link(place);
    auto address = fs::path{place}.filename().string();
    auto number = [&](std::size_t at, std::size_t length) {
      return std::stoi(address.substr(at, length), nullptr, 16);
    };
    node_ += fmt::format(
        "<device><name>pci_{}</name><path>/sys/devices/pci0000:00/{}</path>"
        "<parent>computer</parent><capability type='pci'><class>0x028000</class>"
        "<domain>0</domain><bus>{}</bus><slot>{}</slot><function>{}</function>"
        "<product id='0x24fd'>a device</product><vendor id='0x8086'>a maker</vendor></capability>"
        "</device>",
        with(with(address, ":", "_"), ".", "_"), place, number(5, 2), number(8, 2), number(11, 1));
  }

  fs::path link(const std::string& place) {
    auto here = top / "sys/devices/pci0000:00" / place;
    fs::create_directories(here);
    auto name = top / "sys/bus/pci/devices" / fs::path{place}.filename();
    fs::create_directories(name.parent_path());
    fs::create_directory_symlink(here, name);
    return here;
  }

  std::string ports_of(const std::string& domain) const {
    return call("admin.vm.device.pci.Assigned", domain);
  }

  std::string stored() const { return read_file(top / "state/qubes.xml"); }

  /// All domains of the file are served, and what is written loads again without another change.
  void expect_served(std::size_t domains) const {
    auto list = call("admin.vm.List", "dom0");
    EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(list, '\n')), domains) << list << log();
    ASSERT_EQ(call("admin.vm.feature.Set+touched", "work", "1"), "0\0"s);
    auto again = model::xml::load(stored(), {}, [] { return std::string{}; });
    ASSERT_TRUE(again);
    EXPECT_FALSE(again->migrated);
    EXPECT_TRUE(again->system.quarantine.empty());
    EXPECT_EQ(again->system.domains.size(), domains);
  }

private:
  std::string node_;
};

} // namespace

TEST_F(old_machine, of_release_4_2_comes_up) {
  become("r4.2", "6.6.36-1");
  fs::copy_file(fs::path{QVMD_SOURCE_DIR} / "tests/golden/releases/r4.2/firewall.xml",
                top / "state/appvms/work/firewall.xml");
  start();
  expect_served(7);
  EXPECT_THAT(ports_of("sys-net"),
              AllOf(HasSubstr("dom0+00_1f.6:*"), HasSubstr("dom0+00_1c.0-00_00.0:*"),
                    HasSubstr("_permissive='True' _no-strict-reset='True'")));
  EXPECT_THAT(ports_of("sys-usb"), AllOf(HasSubstr("dom0+00_14.0:*"),
                                         HasSubstr("dom0+00_1b.0-00_00.0-00_02.0-00_00.1:*")));
  EXPECT_THAT(call("admin.vm.device.usb.Available", "sys-usb"), StartsWith("2"))
      << "nobody here serves this class";
  EXPECT_THAT(call("admin.vm.device.usb.Assigned", "work"), HasSubstr("port_id='1-4'"))
      << "its assignment stays, and can be given back";
  EXPECT_THAT(stored(), AllOf(HasSubstr(R"(id="00_1c.0-00_00.0")"), HasSubstr(R"(id="1-4")"),
                              Not(HasSubstr("03_00.0"))));
  EXPECT_THAT(call("admin.vm.property.Get+maxmem", "work"),
              HasSubstr("default=False type=int 2222"));
  EXPECT_THAT(call("admin.vm.property.Get+maxmem", "windows"),
              HasSubstr("default=False type=int 0"));
  EXPECT_THAT(call("admin.vm.firewall.Get", "work"),
              HasSubstr("action=accept dst4=10.20.0.0/16 proto=tcp dstports=443-443 "
                        "comment=intranet\naction=drop\n"));
  for (auto x : {"sys-net", "sys-usb"})
    EXPECT_EQ(call("admin.vm.Start", x), "0\0"s) << x << log();
}

TEST_F(old_machine, of_release_4_0_comes_up) {
  become("r4.0", "4.14.18-1");
  fs::copy_file(fs::path{QVMD_SOURCE_DIR} / "tests/golden/releases/r4.0/firewall-of-r3.xml",
                top / "state/appvms/work/firewall.xml");
  // The file pool of that release snapshots with the device mapper, by a program of dom0.
  auto snapshots = scripted_snapshots{*this};
  auto is_whole = snapshots.is_possible();
  is_whole ? snapshots.start() : start();
  expect_served(6);
  EXPECT_THAT(ports_of("sys-net"),
              AllOf(HasSubstr("dom0+00_19.0:*"), HasSubstr("dom0+00_1c.0-00_00.0:*")));
  EXPECT_THAT(ports_of("sys-usb"), AllOf(HasSubstr("dom0+00_14.0:*"), HasSubstr("dom0+00_1a.0:*")));
  EXPECT_THAT(call("admin.vm.property.Get+virt_mode", "sys-net"), HasSubstr("hvm"));
  EXPECT_THAT(call("admin.vm.property.Get+netvm", "sys-firewall"), HasSubstr("sys-net"));
  EXPECT_THAT(call("admin.vm.property.Get+template_for_dispvms", "work"), HasSubstr("True"));
  EXPECT_THAT(call("admin.vm.firewall.Get", "work"),
              HasSubstr("action=accept dsthost=mail.example.org proto=tcp dstports=993-995\n"));
  if (!is_whole)
    GTEST_SKIP() << "only root can put programs in place for a daemon alone";
  for (auto x : {"sys-net", "sys-usb", "sys-firewall", "work"})
    EXPECT_EQ(call("admin.vm.Start", x), "0\0"s) << x << log();
  EXPECT_THAT(snapshots.told(),
              AllOf(HasSubstr("appvms/work/private.img"), HasSubstr("appvms/work/root-cow.img")));
}

/// The file is replaced by rename while qvmd runs, as an editor does.
TEST_F(old_machine, is_read_again_with_one_bad_option) {
  become("r4.2", "6.6.36-1");
  start();
  expect_served(7);
  constexpr auto bad = R"(<option name="note">&nope;</option>)";
  auto option = R"(<option name="no-strict-reset">True</option>)"s;
  write_file(top / "state/qubes.xml", with(stored(), option, option + bad));
  daemon->signal(SIGHUP);
  ASSERT_TRUE(logs("qubes.xml is as the file says")) << log();
  expect_served(7);
  EXPECT_THAT(stored(), HasSubstr(bad));
  EXPECT_THAT(call("qvmd.Status", "dom0"), AllOf(HasSubstr("&nope;"), HasSubstr("00_1f.6")));
  EXPECT_THAT(ports_of("sys-net"),
              AllOf(HasSubstr("dom0+00_1f.6:*"), HasSubstr("_no-strict-reset='True'")));
  EXPECT_EQ(call("admin.vm.Start", "sys-net"), "0\0"s) << log();
  EXPECT_THAT(call("admin.vm.device.pci.Attached", "sys-net"), HasSubstr("dom0+00_1f.6:"));
}

TEST_F(old_machine, understands_the_names_that_libvirt_gives_to_pci_devices) {
  become("r4.2", "6.6.36-1");
  write_file(top / "state/qubes.xml",
             with(stored(), R"(id="07_00.1")", R"(id="pci_0000_07_00_1")"));
  start();
  constexpr auto port = "dom0+00_1b.0-00_00.0-00_02.0-00_00.1:*";
  EXPECT_THAT(ports_of("sys-usb"), HasSubstr(port));
  EXPECT_EQ(call("admin.vm.device.pci.Unassign+dom0+pci_0000_07_00_1", "sys-usb"), "0\0"s);
  EXPECT_THAT(ports_of("sys-usb"), Not(HasSubstr(port)));
}

TEST_F(old_machine, names_overlays_that_belong_to_no_domain) {
  auto overlays = top / "etc/libvirt";
  fs::create_directories(overlays);
  for (auto name : {"banking", "nobody", "dom0"})
    write_file(overlays / fmt::format("{}.xml", name), "<domain/>\n");
  start();
  auto file = [&](auto name) { return (overlays / name).string() + " has no effect"; };
  EXPECT_TRUE(logs(file("nobody.xml"))) << log();
  EXPECT_TRUE(logs(file("dom0.xml"))) << log();
  EXPECT_THAT(log(), Not(HasSubstr(file("banking.xml"))));
  EXPECT_THAT(call("qvmd.Status", "dom0"),
              AllOf(HasSubstr(file("nobody.xml")), HasSubstr(file("dom0.xml")),
                    Not(HasSubstr(file("banking.xml")))));
  EXPECT_EQ(call("admin.vm.Create.StandaloneVM", "dom0", "name=nobody label=red"), "0\0"s);
  EXPECT_THAT(call("qvmd.Status", "dom0"), Not(HasSubstr(file("nobody.xml"))));
  write_file(overlays / "later.xml", "<domain/>\n");
  EXPECT_TRUE(logs(file("later.xml"))) << log();
}

TEST_F(old_machine, says_that_templates_of_libvirt_xml_have_no_effect) {
  auto named = top / "etc/templates/libvirt/xen/by-name";
  fs::create_directories(named);
  write_file(named / "work.xml", "{% extends 'libvirt/xen.xml' %}\n");
  write_file(named / "work.xml.bak", "");
  start();
  auto told = (named / "work.xml").string() + " has no effect";
  EXPECT_TRUE(logs(told)) << log();
  auto status = call("qvmd.Status", "dom0");
  EXPECT_THAT(status, AllOf(HasSubstr(told), HasSubstr("libvirt/work.xml")));
  EXPECT_THAT(status, Not(HasSubstr("work.xml.bak")));
}

TEST_F(old_machine, either_name_of_a_pci_device_is_understood) {
  become("r4.2", "6.6.36-1");
  start();
  EXPECT_EQ(call("admin.vm.device.pci.Unassign+dom0+03_00.0", "sys-net"), "0\0"s);
  EXPECT_EQ(call("admin.vm.device.pci.Assign+dom0+03_00.0", "windows",
                 "port_id='03_00.0' mode='required'"),
            "0\0"s);
  EXPECT_THAT(ports_of("windows"), HasSubstr("dom0+00_1c.0-00_00.0:*"));
  EXPECT_THAT(call("admin.vm.device.pci.Assign+dom0+00_1c.0-00_00.0", "windows", "mode='required'"),
              HasSubstr("DeviceAlreadyAssigned"));
}

} // namespace qubes
