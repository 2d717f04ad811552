// PCI devices named by address, as files before release 4.3 do, and by place (spec/devices.md §8).
#include "model/pci_port.hpp"

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

TEST(pci_port, what_names_no_device_stays) {
  for (auto text : {"", "*", "_", "05_00.0", "05:00.0", "03_00.00", "3_00.0", "03-00.0", "0G_00.0"})
    EXPECT_EQ(pci_port(here, text), text);
  EXPECT_TRUE(is_unplaced(here, "05_00.0"));
  EXPECT_FALSE(is_unplaced(here, "*"));
  EXPECT_EQ(pci_port({}, "03_00.0"), "03_00.0");
  EXPECT_FALSE(is_unplaced({}, "03_00.0")) << "a host that tells nothing denies nothing";
}
