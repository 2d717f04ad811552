// Ports of PCI devices, made of the bridges before them (spec/devices.md §8).
#include "drivers/host/pci.hpp"

#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

class sysfs : public testing::Test {
protected:
  /// A device at the end of a chain of bridges, e.g. pci0000:00/0000:00:1a.0/0000:02:00.0.
  void device(const std::string& path) {
    auto place = top() / "devices" / path;
    fs::create_directories(place);
    auto link = top() / "bus/pci/devices" / place.filename();
    fs::create_directories(link.parent_path());
    fs::create_directory_symlink(place, link);
  }
  void bridge(const std::string& path, int secondary) {
    auto place = top() / "devices" / path;
    fs::create_directories(place);
    std::ofstream{place / "secondary_bus_number"} << secondary << '\n';
  }
  std::vector<std::string> ports(const std::vector<std::string>& sbdf) {
    auto all = std::vector<model::device>{};
    for (auto& x : sbdf)
      all.emplace_back().port = x;
    auto result = std::vector<std::string>{};
    for (auto& x : place_pci(all, top()))
      result.push_back(x.port);
    return result;
  }
  fs::path top() const { return fs::path{directory.str()}; }

  tests::temp_directory directory;
};

} // namespace

TEST_F(sysfs, ports_are_those_of_the_examples) {
  device("pci0000:00/0000:00:14.0");
  EXPECT_THAT(ports({"0000:00:14.0"}), ElementsAre("00_14.0"));

  bridge("pci0000:00/0000:00:1a.0", 2);
  device("pci0000:00/0000:00:1a.0/0000:02:00.0");
  EXPECT_THAT(ports({"0000:02:00.0"}), ElementsAre("00_1a.0-00_00.0"));

  bridge("pci0000:00/0000:00:1b.0", 4);
  bridge("pci0000:00/0000:00:1b.0/0000:04:00.0", 5);
  bridge("pci0000:00/0000:00:1b.0/0000:04:00.0/0000:05:02.0", 7);
  device("pci0000:00/0000:00:1b.0/0000:04:00.0/0000:05:02.0/0000:07:00.1");
  EXPECT_THAT(ports({"0000:07:00.1"}), ElementsAre("00_1b.0-00_00.0-00_02.0-00_00.1"));

  bridge("pciabcd:00/abcd:00:01.0", 3);
  device("pciabcd:00/abcd:00:01.0/abcd:03:00.0");
  EXPECT_THAT(ports({"abcd:03:00.0"}), ElementsAre("abcd_00_01.0-00_00.0"));

  bridge("pci0000:80/0000:80:01.0", 129);
  device("pci0000:80/0000:80:01.0/0000:81:00.0");
  EXPECT_THAT(ports({"0000:81:00.0"}), ElementsAre("80_01.0-00_00.0"));
}

TEST_F(sysfs, missing_devices_are_left_out) {
  device("pci0000:00/0000:00:14.0");
  EXPECT_THAT(ports({"0000:00:15.0", "0000:00:14.0", "../../etc", ""}), ElementsAre("00_14.0"));
}

TEST_F(sysfs, devices_are_sorted_by_port_and_keep_their_address) {
  device("pci0000:00/0000:00:1f.0");
  device("pci0000:00/0000:00:02.0");
  EXPECT_THAT(ports({"0000:00:1f.0", "0000:00:02.0"}), ElementsAre("00_02.0", "00_1f.0"));
  auto one = std::vector<model::device>(1);
  one[0].port = "0000:00:1f.0";
  auto placed = place_pci(one, top());
  ASSERT_EQ(placed.size(), 1U);
  EXPECT_THAT(placed[0].data, ElementsAre(testing::Pair("sbdf", "0000:00:1f.0")));
}

TEST_F(sysfs, the_whole_host_is_surveyed) {
  device("pci0000:00/0000:00:14.0");
  bridge("pci0000:00/0000:00:1c.0", 3);
  device("pci0000:00/0000:00:1c.0/0000:03:00.0");
  bridge("pci0000:80/0000:80:01.0", 129);
  device("pci0000:80/0000:80:01.0/0000:81:00.0");
  fs::create_directories(top() / "devices/platform");
  auto found = survey_pci(top());
  EXPECT_THAT(found.root_buses, ElementsAre("0000:00", "0000:80"));
  EXPECT_THAT(found.ports, ElementsAre(testing::Pair("0000:00:14.0", "00_14.0"),
                                       testing::Pair("0000:03:00.0", "00_1c.0-00_00.0"),
                                       testing::Pair("0000:81:00.0", "80_01.0-00_00.0")));
  EXPECT_EQ(survey_pci(top() / "nothing"), model::pci_layout{});
}

TEST_F(sysfs, a_bridge_without_a_bus_number_counts_from_zero) {
  bridge("pci0000:00/0000:00:1c.0", 3);
  std::ofstream{top() / "devices/pci0000:00/0000:00:1c.0/secondary_bus_number"} << "soon\n";
  device("pci0000:00/0000:00:1c.0/0000:03:00.0");
  EXPECT_THAT(ports({"0000:03:00.0"}), ElementsAre("00_1c.0-03_00.0"));
}

} // namespace qubes::drivers
