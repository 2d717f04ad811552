// Kinds of hypervisor: the table, which domain runs on which, and what is refused because of that.
#include "model/property/kind_of.hpp"

#include "tests/model/canonical.hpp"
#include "tests/model/sample.hpp"

#include "model/change/plan.hpp"
#include "model/change/plan_device.hpp"
#include "model/property/memory.hpp"
#include "model/xml/renderer.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace {

using namespace qubes::model;
using qubes::tests::read_file;
using qubes::tests::sample;
using testing::HasSubstr;

// -- the table ------------------------------------------------------------------------------------

TEST(hypervisor_kinds, stand_in_the_table_at_their_numbers) {
  for (auto& x : kind_rows)
    EXPECT_EQ(&row(x.id), &x) << x.name;
}

TEST(hypervisor_kinds, are_on_the_page_as_in_the_table) {
  auto page = read_file(QVMD_SOURCE_DIR "/docs/hypervisors.md");
  EXPECT_THAT(page, HasSubstr("\n\n" + describe_kinds() + '\n')) << describe_kinds();
}

TEST(hypervisor_kinds, are_recognised_by_a_uri) {
  using enum hypervisor_id;
  EXPECT_EQ(kind_of_uri(host, "xen:///system"), hypervisor_kind::xen);
  EXPECT_EQ(kind_of_uri(host, "qemu+unix:///system?socket=/x"), hypervisor_kind::qemu);
  EXPECT_EQ(kind_of_uri(host, "test:///default"), hypervisor_kind::test);
  EXPECT_EQ(kind_of_uri(containers, "lxc:///system"), hypervisor_kind::lxc);
  EXPECT_EQ(kind_of_uri(containers, "test:///default"), hypervisor_kind::test);
}

TEST(hypervisor_kinds, an_unknown_uri_is_refused_with_its_key_and_the_known_uris) {
  for (auto wrong :
       {"lxc:///system", "vbox:///session", "xen", "", "xenon:///system", "http://x"}) {
    auto found = kind_of_uri(hypervisor_id::host, wrong);
    ASSERT_FALSE(found) << wrong;
    EXPECT_THAT(found.error().text, HasSubstr("hypervisor.uri"));
    EXPECT_EQ(found.error().hint, "it may be xen:///... or qemu:///... or test:///...");
  }
  auto found = kind_of_uri(hypervisor_id::containers, "xen:///system");
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().text, HasSubstr("hypervisor.containers.uri"));
}

// -- domains --------------------------------------------------------------------------------------

struct containers : testing::Test, sample {
  containers() {
    machine.containers = hypervisor_kind::lxc;
    for (auto name : {"debian", "sys-net", "sys-firewall", "work", "dvm", "disp1", "alone"})
      edit(name, [&](auto& x) { x.uuid = std::to_string(x.qid); });
  }

  outcome<void> set_mode(std::string_view who, std::string_view mode) {
    auto plan = plan_set_property(view, &(*this)[who], "virt_mode", mode);
    if (plan.refusal)
      return tl::unexpected{*plan.refusal};
    return {};
  }
  void contain(std::string_view who) { set(who, "virt_mode", "lxc"); }
};

/// The code of a refusal, and a word of its sentence or of its hint.
void expect_refused(const outcome<void>& x, errc code, const char* word) {
  ASSERT_FALSE(x);
  EXPECT_EQ(x.error().code, code) << x.error().message();
  EXPECT_THAT(x.error().message(), HasSubstr(word));
  EXPECT_FALSE(x.error().hint.empty());
}

TEST_F(containers, are_domains_of_one_virt_mode_and_nothing_else_changes) {
  EXPECT_EQ(hypervisor_of(view, (*this)["work"]), hypervisor_id::host);
  contain("work");
  auto& work = (*this)["work"];
  EXPECT_EQ(hypervisor_of(view, work), hypervisor_id::containers);
  EXPECT_EQ(form_of(view, work), hypervisor_kind::lxc);
  EXPECT_EQ(form_of(view, (*this)["alone"]), hypervisor_kind::xen);
  EXPECT_TRUE(set_mode("alone", "lxc"));
}

TEST_F(containers, take_their_mode_from_their_template) {
  contain("debian");
  EXPECT_EQ(hypervisor_of(view, (*this)["work"]), hypervisor_id::containers);
  set("work", "virt_mode", "pvh");
  EXPECT_EQ(hypervisor_of(view, (*this)["work"]), hypervisor_id::host);
}

TEST_F(containers, a_running_domain_stays_on_the_hypervisor_that_started_it) {
  run("work");
  contain("work");
  EXPECT_EQ(hypervisor_of(view, (*this)["work"]), hypervisor_id::host);
  EXPECT_EQ(next_hypervisor_of(view, (*this)["work"]), hypervisor_id::containers);
  auto facts = board->read((*this)["work"].qid);
  facts.at = hypervisor_id::containers;
  board->write((*this)["work"].qid, facts);
  set("work", "virt_mode", "pvh");
  EXPECT_EQ(hypervisor_of(view, (*this)["work"]), hypervisor_id::containers);
}

TEST_F(containers, need_to_be_configured_and_the_refusal_says_where) {
  machine.containers = {};
  expect_refused(set_mode("work", "lxc"), errc::property_value, "hypervisor.containers.uri");
  EXPECT_TRUE(set_mode("work", "hvm"));
  contain("work"); // a file may have this value
  expect_refused(check_kind(view, (*this)["work"]), errc::vm_error, "hypervisor.containers.uri");
}

TEST_F(containers, have_no_kernel) {
  set("work", "kernel", "6.1");
  expect_refused(set_mode("work", "lxc"), errc::property_value, "kernel");
  contain("work");
  expect_refused(check_kind(view, (*this)["work"]), errc::vm_error, "kernel");
  contain("alone");
  set("alone", "netvm", none{});
  EXPECT_EQ(read_text(who("alone"), "kernel"), "") << "and none by default";
  EXPECT_TRUE(check_kind(view, (*this)["alone"]));
  auto plan = plan_set_property(view, &(*this)["alone"], "kernel", "6.1");
  ASSERT_TRUE(plan.refusal);
  EXPECT_THAT(plan.refusal->text, HasSubstr("boots no kernel"));
}

TEST_F(containers, take_no_pci_devices) {
  assign_pci("work");
  set("work", "virt_mode", "hvm");
  expect_refused(set_mode("work", "lxc"), errc::property_value, "PCI");
  contain("work");
  expect_refused(check_kind(view, (*this)["work"]), errc::vm_error, "PCI");
  contain("alone");
  auto plan = plan_assign(view, (*this)["alone"], "pci", "dom0+00_14.0", "mode='required'");
  ASSERT_TRUE(plan.refusal);
  EXPECT_THAT(plan.refusal->text, HasSubstr("takes no PCI devices"));
}

/// A container cannot use a disk of another domain: dom0 has another disk of that name, or none.
TEST_F(containers, have_no_disks_of_other_domains) {
  edit("work", [](auto& x) {
    auto disk = assignment{};
    disk.backend = "alone";
    disk.port = "loop0";
    disk.mode = assignment_mode::required;
    x.devices.push_back({"block", {disk}});
  });
  set("work", "netvm", none{});
  expect_refused(set_mode("work", "lxc"), errc::property_value, "a disk of 'alone'");
  contain("work");
  expect_refused(check_kind(view, (*this)["work"]), errc::vm_error, "unassign");
  edit("work", [](auto& x) { x.devices.back().assignments[0].backend = "dom0"; });
  EXPECT_TRUE(check_kind(view, (*this)["work"]));
}

TEST_F(containers, a_running_domain_does_not_change_its_hypervisor) {
  run("work");
  expect_refused(set_mode("work", "lxc"), errc::vm_not_halted, "shut it down");
  EXPECT_TRUE(set_mode("work", "hvm")) << "from its next start on";
  expect_refused(set_mode("debian", "lxc"), errc::vm_not_halted, "'work'");
  set("work", "virt_mode", "pvh");
  EXPECT_TRUE(set_mode("debian", "lxc")) << "it does not take this over any more";
  contain("alone");
  auto facts = live{.state = power::running, .xid = 7, .at = hypervisor_id::containers};
  board->write((*this)["alone"].qid, facts);
  expect_refused(set_mode("alone", "pvh"), errc::vm_not_halted, "shut it down");
  auto reset = plan_reset_property(view, &(*this)["alone"], "virt_mode");
  ASSERT_TRUE(reset.refusal);
  EXPECT_EQ(reset.refusal->code, errc::vm_not_halted);
}

TEST_F(containers, are_served_by_containers_or_by_a_bridge_of_the_host) {
  contain("work");
  expect_refused(check_kind(view, (*this)["work"]), errc::vm_error, "net.bridge");
  contain("sys-firewall");
  EXPECT_TRUE(check_kind(view, (*this)["work"]));
  expect_refused(check_kind(view, (*this)["dvm"]), errc::vm_error, "'sys-firewall'");
  feature("sys-firewall", "net.bridge", "br0");
  EXPECT_TRUE(check_kind(view, (*this)["sys-firewall"]));
}

TEST_F(containers, have_no_use_for_memory_of_others) {
  contain("work");
  EXPECT_EQ(read_int(who("work"), "maxmem"), 0);
  EXPECT_EQ(most_memory(view, (*this)["work"]), 0);
}

TEST_F(containers, share_a_bridge_and_no_mac) {
  contain("work");
  contain("dvm");
  EXPECT_NE(read_text(who("work"), "mac"), read_text(who("dvm"), "mac"));
  EXPECT_EQ(read_text(who("alone"), "mac"), "00:16:3e:5e:6c:00");
}

TEST_F(containers, run_without_an_agent_to_wait_for) {
  feature("work", "qrexec", "1");
  run("work", false);
  EXPECT_EQ(power_of(view, (*this)["work"]), power::starting);
  auto facts = board->read((*this)["work"].qid);
  facts.at = hypervisor_id::containers;
  board->write((*this)["work"].qid, facts);
  EXPECT_EQ(power_of(view, (*this)["work"]), power::running);
}

// -- XML ------------------------------------------------------------------------------------------

TEST_F(containers, are_rendered_with_all_their_parts) {
  contain("sys-firewall");
  contain("work");
  feature("debian", "container.init", "/sbin/init --quiet");
  edit("work", [](auto& x) {
    for (auto name : {"root", "private", "volatile"}) {
      auto v = volume{};
      v.name = name;
      v.pool = "varlibqubes";
      v.vid = std::string{"appvms/work/"} + name;
      v.rw = true;
      x.volumes.push_back(std::move(v));
    }
  });
  auto gathered = xml::gather(view, (*this)["work"],
                              {{"root", "/images/root"},
                               {"private", "/dev/pool/private"},
                               {"volatile", "/images/volatile"}});
  auto text = xml::render(gathered);
  ASSERT_TRUE(text) << text.error().message();
  EXPECT_EQ(qubes::tests::canonical(*text), qubes::tests::canonical(R"(
<domain type="lxc"><name>work</name><uuid>4</uuid>
  <memory unit="MiB">400</memory><currentMemory unit="MiB">400</currentMemory>
  <vcpu placement="static">2</vcpu>
  <cputune><period>100000</period><quota>200000</quota></cputune>
  <os><type arch="x86_64">exe</type><init>/sbin/init</init><initarg>--quiet</initarg>
    <initenv name="QUBES_NAME">work</initenv><initenv name="QUBES_IP">10.137.0.4</initenv>
    <initenv name="QUBES_GATEWAY">10.137.0.3</initenv>
    <initenv name="QUBES_PRIMARY_DNS">10.139.1.1</initenv>
    <initenv name="QUBES_SECONDARY_DNS">10.139.1.2</initenv></os>
  <features><privnet/></features><clock offset="utc"/>
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <filesystem type="file" accessmode="passthrough"><driver type="loop" format="raw"/>
      <source file="/images/root"/><target dir="/"/></filesystem>
    <filesystem type="block" accessmode="passthrough"><source dev="/dev/pool/private"/>
      <target dir="/rw"/></filesystem>
    <interface type="bridge"><mac address="00:16:3e:5f:00:04"/><source bridge="qvbr3"/>
      <ip family="ipv4" address="10.137.0.4" prefix="32" peer="10.137.0.3"/>
      <route family="ipv4" address="0.0.0.0" prefix="0" gateway="10.137.0.3"/></interface>
    <console type="pty"/></devices></domain>)"));
  auto needs = xml::needs_of(gathered);
  ASSERT_EQ(needs.bridges.size(), 1U);
  EXPECT_TRUE(needs.bridges[0].own);
  ASSERT_EQ(needs.file_systems.size(), 2U);
  EXPECT_FALSE(needs.file_systems[0].make) << "a root is its template's";
  EXPECT_TRUE(needs.file_systems[1].make);

  feature("work", "container.volatile", "/scratch");
  feature("work", "net.bridge", "br0");
  gathered = xml::gather(view, (*this)["work"], {{"volatile", "/images/volatile"}});
  text = xml::render(gathered);
  ASSERT_TRUE(text);
  EXPECT_THAT(*text, HasSubstr("<target dir=\"/scratch\" />"));
  EXPECT_THAT(*text, HasSubstr("<source bridge=\"br0\" />"));
  EXPECT_FALSE(xml::needs_of(gathered).bridges[0].own);
}

TEST_F(containers, without_a_root_volume_are_refused) {
  contain("work");
  auto text = xml::render(xml::gather(view, (*this)["work"]));
  ASSERT_FALSE(text);
  EXPECT_THAT(text.error().text, HasSubstr("no root volume"));
}

TEST_F(containers, that_provide_network_have_an_interface_at_the_bridge_of_their_clients) {
  contain("sys-net");
  set("sys-net", "provides_network", true);
  auto x = xml::gather(view, (*this)["sys-net"]);
  EXPECT_EQ(x.bridged.uplink.bridge, "") << "it has no netvm";
  EXPECT_EQ(x.bridged.downlink.bridge, "qvbr2");
  EXPECT_NE(x.bridged.downlink.mac, x.mac);
}

TEST_F(containers, reach_their_netvm_by_ipv6_through_an_address_of_the_link) {
  set("sys-firewall", "netvm", none{});
  feature("sys-firewall", "ipv6", "1");
  contain("sys-firewall");
  contain("work");
  auto& form = xml::renderer_of(hypervisor_kind::lxc);
  EXPECT_EQ(qubes::tests::canonical(form.interface(xml::gather(view, (*this)["work"]))),
            qubes::tests::canonical(R"(
    <interface type="bridge"><mac address="00:16:3e:5f:00:04"/><source bridge="qvbr3"/>
      <ip family="ipv4" address="10.137.0.4" prefix="32" peer="10.137.0.3"/>
      <ip family="ipv6" address="fd09:24ef:4179::a89:4" prefix="128"/>
      <route family="ipv4" address="0.0.0.0" prefix="0" gateway="10.137.0.3"/>
      <route family="ipv6" address="fd09:24ef:4179::a89:3" prefix="128" gateway="fe80::1"/>
      <route family="ipv6" address="::" prefix="0" gateway="fe80::1"/></interface>)"));
  auto netvm = xml::gather(view, (*this)["sys-firewall"]);
  netvm.volumes.push_back({.volume = "root", .path = "/images/root", .domain = {}});
  auto text = xml::render(netvm);
  ASSERT_TRUE(text) << text.error().message();
  EXPECT_THAT(*text, HasSubstr(R"(address="fd09:24ef:4179::a89:3" prefix="64")"));
  EXPECT_THAT(*text, HasSubstr(R"(address="fe80::1" prefix="64")"));
}

TEST_F(containers, have_their_real_addresses_despite_features_that_fake_them) {
  contain("sys-firewall");
  contain("work");
  feature("work", "net.fake-gateway", "192.168.5.1");
  feature("work", "net.fake-ip", "192.168.5.2");
  feature("sys-firewall", "net.fake-ip", "192.168.6.2");
  auto x = xml::gather(view, (*this)["work"]);
  EXPECT_EQ(x.ip, "10.137.0.4");
  EXPECT_EQ(x.bridged.gateway, "10.137.0.3");
}

// -- QEMU -----------------------------------------------------------------------------------------

struct qemu : testing::Test, sample {
  qemu() {
    machine.kind = hypervisor_kind::qemu;
    set("work", "virt_mode", "hvm");
  }

  static std::string disk(const xml::block_attachment& x, std::string_view frontend) {
    return xml::renderer_of(hypervisor_kind::qemu).disk(x, frontend);
  }
  static xml::block_attachment block(std::map<std::string, std::string> options) {
    return {.backend = "dom0",
            .port = "sdb",
            .node = "/dev/sdb",
            .options = std::move(options),
            .backend_is_dom0 = true};
  }
};

/// In the XML of a whole domain, how many elements begin like this.
std::size_t count(std::string_view text, std::string_view what) {
  auto result = std::size_t{0};
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at + 1))
    ++result;
  return result;
}

TEST_F(qemu, has_ports_for_eight_devices_more_than_it_begins_with) {
  auto x = xml::gather(view, (*this)["work"]);
  constexpr auto port = R"(model="pcie-root-port")";
  auto small = xml::render(x);
  ASSERT_TRUE(small) << small.error().message();
  x.volumes.push_back({.volume = "root", .path = "/images/root", .domain = {}});
  x.required_blocks = {block({}), block({})};
  auto big = xml::render(x);
  ASSERT_TRUE(big) << big.error().message();
  EXPECT_EQ(count(*small, port), 1 + 4 + 8U) << "its interface, and four that all have";
  EXPECT_EQ(count(*big, port), count(*small, port) + 3);
}

TEST_F(qemu, attaches_disks_by_virtio_and_other_disks_by_scsi) {
  EXPECT_EQ(qubes::tests::canonical(disk(block({}), "xvdi")), qubes::tests::canonical(R"(
    <disk type="block" device="disk"><driver name="qemu" type="raw"/><source dev="/dev/sdb"/>
      <target dev="vdi" bus="virtio"/><serial>xvdi</serial></disk>)"));
  EXPECT_EQ(qubes::tests::canonical(disk(block({{"devtype", "cdrom"}}), "xvdi")),
            qubes::tests::canonical(R"(
    <disk type="block" device="cdrom"><driver name="qemu" type="raw"/><source dev="/dev/sdb"/>
      <target dev="vdi" bus="scsi"/><readonly/><serial>xvdi</serial>
      <address type="drive" controller="0" bus="0" target="1" unit="8"/></disk>)"));
  EXPECT_EQ(qubes::tests::canonical(disk(block({{"frontend-dev", "sda"}}), "sda")),
            qubes::tests::canonical(R"(
    <disk type="block" device="disk"><driver name="qemu" type="raw"/><source dev="/dev/sdb"/>
      <target dev="sda" bus="scsi"/><serial>sda</serial>
      <address type="drive" controller="0" bus="0" target="0" unit="0"/></disk>)"));
  EXPECT_THAT(disk(block({{"devtype", "cdrom"}}), "xvdaa"), HasSubstr("unit=\"26\""));
}

TEST_F(qemu, is_told_by_its_firmware_what_a_container_has_in_its_environment) {
  auto text = xml::render(xml::gather(view, (*this)["work"]));
  ASSERT_TRUE(text) << text.error().message();
  EXPECT_EQ(count(*text, R"(<sysinfo type="fwcfg">)"), 1U);
  for (auto& [word, told] : std::map<std::string, std::string>{{"name", "work"},
                                                               {"ip", "10.137.0.4"},
                                                               {"gateway", "10.137.0.3"},
                                                               {"primary-dns", "10.139.1.1"},
                                                               {"secondary-dns", "10.139.1.2"}})
    EXPECT_THAT(*text, HasSubstr(fmt::format(R"(<entry name="opt/org.qubes-os/{}">{}</entry>)",
                                             word, told)));
  EXPECT_EQ(count(*text, "<entry "), 5U) << "of what there is not nothing is told";
}

TEST_F(qemu, can_tell_that_its_kernel_failed) {
  auto text = xml::render(xml::gather(view, (*this)["work"]));
  ASSERT_TRUE(text) << text.error().message();
  EXPECT_THAT(*text, HasSubstr(R"(<panic model="isa" />)"));
  EXPECT_THAT(*text, HasSubstr("<on_crash>destroy</on_crash>"));
}

TEST_F(qemu, disks_that_it_has_are_known_by_their_qubes_names) {
  auto live = [](std::string_view kernel, std::string_view type) {
    auto text = fmt::format("<domain><os>{}</os><devices>", kernel);
    for (auto name : {"vda", "vdb", "vdc", "vdd", "vdi", "sda"})
      text += fmt::format("<disk type='{}'><source dev='/dev/x{}'/><target dev='{}'/></disk>", type,
                          name, name);
    return text + "</devices></domain>";
  };
  auto names = [](const std::vector<attachment>& all) {
    auto result = std::string{};
    for (auto& x : all)
      for (auto& [key, value] : x.options)
        if (key == "frontend-dev")
          result += value + ' ';
    return result;
  };
  EXPECT_EQ(names(xml::attachments_in(live("<kernel>/k</kernel>", "block"))), "xvdi sda ");
  EXPECT_EQ(names(xml::attachments_in(live("", "block"))), "xvdd xvdi sda ");
  EXPECT_EQ(names(xml::attachments_in(live("", "file"))), "");
}

/// A disk that is not found again could not be detached.
TEST_F(qemu, a_disk_is_detached_by_the_attachment_that_was_read) {
  auto given = disk(block({}), "xvdi");
  auto domain = "<domain><devices>" + given + "</devices></domain>";
  auto found = xml::attachments_in(domain);
  ASSERT_EQ(found.size(), 1U);
  auto again = block({found[0].options.begin(), found[0].options.end()});
  EXPECT_TRUE(xml::live_device(domain, disk(again, "xvdi")));
}

TEST(hypervisor_kinds, an_interface_says_at_which_bridge_it_is) {
  EXPECT_EQ(xml::interface_bridge("<interface type='bridge'><source bridge='b'/></interface>"),
            "b");
  EXPECT_EQ(xml::interface_bridge("<interface type='ethernet'/>"), "");
  EXPECT_EQ(xml::interface_bridge("no xml"), "");
}

} // namespace
