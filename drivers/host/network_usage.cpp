#include "drivers/host/network_usage.hpp"

#include "drivers/host/xid_in_name.hpp"
#include "drivers/io/directory.hpp"

#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

namespace qubes::drivers {

namespace fs = std::filesystem;

namespace {

std::optional<std::uint64_t> count_in(const fs::path& file) {
  auto bytes = std::uint64_t{0};
  return std::ifstream{file} >> bytes ? std::optional{bytes} : std::nullopt;
}

} // namespace

std::map<std::int32_t, model::network_usage> count_network_usage(const std::string& sysfs) {
  auto result = std::map<std::int32_t, model::network_usage>{};
  auto interfaces = fs::path{sysfs} / "class/net";
  for (auto& name : entries_of(interfaces.native()).value_or(std::vector<std::string>{}))
    // "vifXID.NUMBER", or "vifXID.NUMBER-emu" for what QEMU emulates.
    if (auto xid = xid_in(name, "vif", '.')) {
      // This host receives what the guest sends.
      auto sent = count_in(interfaces / name / "statistics/rx_bytes");
      auto received = count_in(interfaces / name / "statistics/tx_bytes");
      if (!sent || !received) // it is gone by now
        continue;
      auto& all = result[*xid];
      all.received_bytes += *received;
      all.sent_bytes += *sent;
    }
  return result;
}

} // namespace qubes::drivers
