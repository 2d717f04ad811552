#include "drivers/host/disk_usage.hpp"

#include "drivers/host/xid_in_name.hpp"
#include "drivers/io/directory.hpp"

#include <filesystem>
#include <fstream>
#include <vector>

namespace qubes::drivers {

namespace fs = std::filesystem;

namespace {

constexpr auto sector = std::uint64_t{512}; ///< the kernel counts in these, whatever the disk has

/// 0 of one that is gone by now.
std::uint64_t bytes_in(const fs::path& file) {
  auto sectors = std::uint64_t{0};
  std::ifstream{file} >> sectors;
  return sectors * sector;
}

} // namespace

std::map<std::int32_t, model::disk_usage> count_disk_usage(const std::string& sysfs) {
  auto result = std::map<std::int32_t, model::disk_usage>{};
  auto devices = fs::path{sysfs} / "bus/xen-backend/devices";
  for (auto& name : entries_of(devices.native()).value_or(std::vector<std::string>{}))
    if (auto xid = xid_in(name, "vbd-", '-')) {
      auto& all = result[*xid];
      all.read_bytes += bytes_in(devices / name / "statistics/rd_sect");
      all.written_bytes += bytes_in(devices / name / "statistics/wr_sect");
    }
  return result;
}

} // namespace qubes::drivers
