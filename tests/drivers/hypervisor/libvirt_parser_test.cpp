// Devices that libvirt refuses, tried with libvirt and with the parser that stands in for it.
#include "drivers/hypervisor/libvirt_parser.hpp"

#include "drivers/hypervisor/libvirt.hpp"
#include "drivers/hypervisor/libvirt_session.hpp"
#include "tests/fakes/fake_hypervisor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace qubes;
using namespace qubes::drivers;
using testing::HasSubstr;

namespace {

const auto guest_uuid = std::string{"11111111-1111-4111-8111-111111111111"};

struct refused_row {
  std::string_view name;
  std::string_view xml;
  std::string_view reason; ///< part of libvirt's sentence
  bool only_in_domain =
      false; ///< libvirt skips it in the XML of a domain, unless that is validated
};

void PrintTo(const refused_row& x, std::ostream* out) {
  *out << x.name;
}

constexpr refused_row refused[] = {
    {"no_xml", "no xml at all", "not one element", true},
    {"half_a_disk", "<disk type='block'>", "not one element", true},
    {"toaster", "<toaster type='block'/>", "'toaster'", true},
    {"interface_of_no_type",
     "<interface type='nonsense'><mac address='00:16:3e:5e:6c:00'/></interface>", "'nonsense'"},
    {"mac_of_no_digits",
     "<interface type='ethernet'><mac address='zz:16:3e:5e:6c:00'/></interface>",
     "'zz:16:3e:5e:6c:00'"},
    {"mac_too_short", "<interface type='ethernet'><mac address='00:16:3e'/></interface>",
     "'00:16:3e'"},
    {"mac_empty", "<interface type='ethernet'><mac address=''/></interface>", "mac address ''"},
    {"mac_multicast", "<interface type='ethernet'><mac address='01:16:3e:5e:6c:00'/></interface>",
     "found multicast '01:16:3e:5e:6c:00'"},
    {"ip_empty",
     "<interface type='ethernet'><mac address='00:16:3e:5e:6c:00'/><ip address=''/></interface>",
     "Invalid address '' in <ip>"},
    {"ip_nonsense",
     "<interface type='ethernet'><mac address='00:16:3e:5e:6c:00'/><ip address='10.0.0.'/>"
     "</interface>",
     "Invalid address '10.0.0.' in <ip>"},
    {"bridge_of_no_name", "<interface type='bridge'><mac address='00:16:3e:5e:6c:00'/></interface>",
     "requires a 'source' element"},
    {"disk_of_no_type",
     "<disk type='nonsense'><source dev='/dev/loop1'/><target dev='xvdi'/></disk>", "'nonsense'"},
    {"disk_device_toaster",
     "<disk type='block' device='toaster'><source dev='/dev/loop1'/><target dev='xvdi'/></disk>",
     "'toaster'"},
    {"disk_without_target", "<disk type='block'><source dev='/dev/loop1'/></disk>",
     "missing target information"},
    {"disk_without_source", "<disk type='block'><target dev='xvdi'/></disk>",
     "missing source information"},
    {"disk_of_no_front_end",
     "<disk type='block'><source dev='/dev/loop1'/><target dev='nonsense'/></disk>",
     "Unknown disk name 'nonsense'"},
    {"disk_on_no_bus",
     "<disk type='block'><source dev='/dev/loop1'/><target dev='xvdi' bus='nonsense'/></disk>",
     "'nonsense'"},
    {"disk_empty", "<disk/>", "missing target information"},
    {"pci_function_9",
     "<hostdev type='pci'><source><address bus='0x00' slot='0x1f' function='0x9'/></source>"
     "</hostdev>",
     "function=0x9"},
    {"pci_bus_256",
     "<hostdev type='pci'><source><address bus='0x100' slot='0x1f' function='0x1'/></source>"
     "</hostdev>",
     "bus='0x100'"},
    {"pci_slot_32",
     "<hostdev type='pci'><source><address bus='0x00' slot='0x20' function='0x1'/></source>"
     "</hostdev>",
     "slot='0x20'"},
    {"pci_bus_of_no_digits",
     "<hostdev type='pci'><source><address bus='zz' slot='0x1f' "
     "function='0x1'/></source></hostdev>",
     "'zz'"},
    {"hostdev_of_no_type",
     "<hostdev type='toaster'><source><address bus='0' slot='0' function='0'/></source></hostdev>",
     "'toaster'"},
};

class devices_that_libvirt_refuses : public testing::TestWithParam<refused_row> {};

TEST_P(devices_that_libvirt_refuses, are_refused_by_libvirt) {
  auto quiet = make_libvirt({.uri = "test:///default"}); // else libvirt prints every refusal
  ASSERT_TRUE(quiet->connect());
  auto link = open_connection("test:///default");
  ASSERT_TRUE(link);
  auto whole = "<domain type='xen'><name>whole</name><memory unit='MiB'>64</memory><os><type>hvm"
               "</type></os><devices>"
               + std::string{GetParam().xml} + "</devices></domain>";
  auto flags = GetParam().only_in_domain ? VIR_DOMAIN_DEFINE_VALIDATE : 0;
  auto domain = domain_handle{
      virDomainDefineXMLFlags(link->get(), whole.c_str(), static_cast<unsigned>(flags))};
  auto why = complaint::last().text;
  if (domain)
    virDomainUndefine(domain.get());
  ASSERT_FALSE(domain);
  if (!GetParam().only_in_domain) {
    EXPECT_THAT(why, HasSubstr(std::string{GetParam().reason}));
  }
}

TEST_P(devices_that_libvirt_refuses, are_refused_by_the_parser_however_often_it_is_asked) {
  auto parser = libvirt_parser{};
  for (auto i = 0; i < 2; ++i) {
    auto read = parser.parse_device(std::string{GetParam().xml});
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, model::errc::hypervisor);
    EXPECT_THAT(read.error().text, HasSubstr(std::string{GetParam().reason}));
  }
}

TEST_P(devices_that_libvirt_refuses, are_neither_attached_nor_detached_by_the_fake) {
  auto fake = fake_hypervisor{};
  ASSERT_TRUE(fake.connect());
  ASSERT_TRUE(fake.create(guest_uuid, "<domain><name>work</name></domain>"));
  auto device = std::string{GetParam().xml};
  for (auto& done : {fake.attach(guest_uuid, device), fake.detach(guest_uuid, device)}) {
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, model::errc::hypervisor);
    EXPECT_THAT(done.error().text, HasSubstr(std::string{GetParam().reason}));
  }
  EXPECT_TRUE(fake.attached(guest_uuid).empty());
}

INSTANTIATE_TEST_SUITE_P(, devices_that_libvirt_refuses, testing::ValuesIn(refused),
                         [](auto& x) { return std::string{x.param.name}; });

TEST(libvirt_parser, takes_what_domains_are_given) {
  auto parser = libvirt_parser{};
  for (auto* x :
       {"<interface type='ethernet'><mac address='00:16:3e:5e:6c:00'/><ip address='10.137.0.9'/>"
        "<ip address='fd09::9' family='ipv6'/><backenddomain name='sys-net'/>"
        "<script path='vif-route-qubes'/></interface>",
        "<interface type='ethernet'><mac address='00:16:3e:5e:6c:00'/></interface>",
        "<interface type='bridge'><mac address='00:16:3e:5e:6c:00'/><source bridge='br0'/>"
        "</interface>",
        "<disk type='block' device='cdrom'><driver name='phy'/><source dev='/dev/sr0'/>"
        "<target dev='xvdi'/><readonly/><backenddomain name='sys-usb'/></disk>",
        "<hostdev type='pci' managed='yes'><source writeFiltering='no'><address domain='0x0000' "
        "bus='0x00' slot='0x1f' function='0x6'/></source></hostdev>"}) {
    auto read = parser.parse_device(x);
    EXPECT_TRUE(read) << x << ": " << read.error().text;
  }
}

/// The XML of a domain has these elements one after the other; hot-plug takes one device.
TEST(libvirt_parser, takes_one_element_at_a_time) {
  auto disk =
      std::string{"<disk type='block'><source dev='/dev/loop1'/><target dev='xvdi'/></disk>"};
  auto parser = libvirt_parser{};
  EXPECT_TRUE(parser.parse_device(disk));
  for (auto& x : {std::string{}, disk + disk, "text" + disk, disk + "text"})
    EXPECT_FALSE(parser.parse_device(x)) << x;
}

} // namespace
