// PCI devices named by address, as files before release 4.3 do, and by place (spec/devices.md §8).
#include "model/system/pci_port.hpp"

#include <gtest/gtest.h>

namespace {

using namespace qubes::model;

const auto here = pci_layout{.root_buses = {"0000:00", "0000:40", "abcd:00"},
                             .ports = {{"0000:00:14.0", "00_14.0"},
                                       {"0000:03:00.0", "00_1c.0-00_00.0"},
                                       {"0000:07:00.1", "00_1b.0-00_00.0-00_02.0-00_00.1"},
                                       {"abcd:03:00.0", "abcd_00_01.0-00_00.0"}}};

} // namespace

TEST(pci_port, either_name_leads_to_the_port) {
  constexpr std::pair<const char*, const char*> table[]{
      {"03_00.0", "00_1c.0-00_00.0"},
      {"03:00.0", "00_1c.0-00_00.0"},
      {"0000:03:00.0", "00_1c.0-00_00.0"},
      {"0000_03_00.0", "00_1c.0-00_00.0"},
      {"pci_0000_07_00_1", "00_1b.0-00_00.0-00_02.0-00_00.1"},
      {"pci_0000_00_14_0", "00_14.0"},
      {"pci_abcd_03_00_0", "abcd_00_01.0-00_00.0"},
      {"0000_07_00_1", "00_1b.0-00_00.0-00_02.0-00_00.1"},
      {"07_00.1", "00_1b.0-00_00.0-00_02.0-00_00.1"},
      {"00_14.0", "00_14.0"},
      {"00:14.0", "00_14.0"},
      {"0000_00_14.0", "00_14.0"},
      {"40:01.2", "40_01.2"},
      {"abcd:00:01.0", "abcd_00_01.0"},
      {"abcd_03_00.0", "abcd_00_01.0-00_00.0"},
      {"00_1c.0-00_00.0", "00_1c.0-00_00.0"},
  };
  for (auto& [text, port] : table) {
    EXPECT_EQ(pci_port(here, text), port) << text;
    EXPECT_EQ(pci_port(here, port), port) << "a port is its own";
    EXPECT_FALSE(is_unplaced(here, port)) << port;
  }
}

TEST(pci_port, a_text_that_names_no_device_is_kept) {
  for (auto text : {"", "*", "_", "05_00.0", "05:00.0", "03_00.00", "3_00.0", "03-00.0", "0G_00.0",
                    "pci_", "pci_03", "pci_0000_03_00_", "03:00:0", "pci_pci_0000_03_00_0"})
    EXPECT_EQ(pci_port(here, text), text);
  EXPECT_TRUE(is_unplaced(here, "05_00.0"));
  EXPECT_FALSE(is_unplaced(here, "*"));
  EXPECT_EQ(pci_port({}, "03_00.0"), "03_00.0");
  EXPECT_FALSE(is_unplaced({}, "03_00.0")) << "a host that tells nothing denies nothing";
}

TEST(pci_port, known_forms) {
  for (auto text : {"00:1f.6", "00_1f.6", "0000:00:1f.6", "0001_00_1f.6", "pci_0000_00_1f_6",
                    "00_1c.0-00_00.0", "0001_00_1c.0-00_00.0-00_02.1"})
    EXPECT_TRUE(is_pci_port(text)) << text;
  for (auto text : {"", "*", "00", "0000", "sda", "00:1f", "00_1f.", "00_1f.6-", "00_1f.6-00",
                    "-00_1f.6", "0000_", "00_1F.6", "00_1f.6x", "00:1f.6-00:00.0"})
    EXPECT_FALSE(is_pci_port(text)) << text;
  for (auto text : {"0x8086:0xa12f::p0c0330", "8086:a12f:serial:p0c0330", "0000:0000::?******",
                    "8086:0001::p030000p0c0330"})
    EXPECT_TRUE(is_pci_identity(text)) << text;
  for (auto text : {"", "*", "1f.6", "1f.6:*", "8086:0001", "8086:0001::", "8086:0001::p0300",
                    "8086:0001:a:b:p030000", "x086:0001::p030000", "80865:0001::p030000"})
    EXPECT_FALSE(is_pci_identity(text)) << text;
}

TEST(pci_port, a_name_may_begin_with_an_address) {
  EXPECT_EQ(leading_pci_address("00:1f.6"), "00:1f.6");
  EXPECT_EQ(leading_pci_address("00:1f.6:*"), "00:1f.6");
  EXPECT_EQ(leading_pci_address("0000:00:1f.6:8086:0001::p030000"), "0000:00:1f.6");
  EXPECT_EQ(leading_pci_address("00_1f.6:*"), "00_1f.6");
  for (auto text : {"", "*", "00:1f.66", "*:8086:0001::p030000", "00_1c.0-00_00.0:*"})
    EXPECT_EQ(leading_pci_address(text), "") << text;
}
