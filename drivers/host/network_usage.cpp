#include "drivers/host/network_usage.hpp"

#include "drivers/io/directory.hpp"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
#include <vector>

namespace qubes::drivers {

namespace fs = std::filesystem;

namespace {

/// Whose an interface is: "vifXID.NUMBER", or "vifXID.NUMBER-emu" for what QEMU emulates.
std::optional<std::int32_t> guest_of(std::string_view name) {
  constexpr auto prefix = std::string_view{"vif"};
  if (!name.starts_with(prefix))
    return std::nullopt;
  name.remove_prefix(prefix.size());
  auto xid = std::int32_t{0};
  auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), xid);
  auto whole = bad == std::errc{} && end != name.data() + name.size() && *end == '.';
  return whole ? std::optional{xid} : std::nullopt;
}

std::optional<std::uint64_t> count_in(const fs::path& file) {
  auto bytes = std::uint64_t{0};
  return std::ifstream{file} >> bytes ? std::optional{bytes} : std::nullopt;
}

} // namespace

std::map<std::int32_t, model::network_usage> count_network_usage(const std::string& sysfs) {
  auto result = std::map<std::int32_t, model::network_usage>{};
  auto interfaces = fs::path{sysfs} / "class/net";
  for (auto& name : entries_of(interfaces.native()).value_or(std::vector<std::string>{}))
    if (auto xid = guest_of(name)) {
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
