#include "drivers/host/pci.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

struct address {
  unsigned segment = 0, bus = 0, device = 0, function = 0;
};

template <int Base>
bool read_number(std::string_view text, unsigned& to) {
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), to, Base);
  return failure == std::errc{} && end == text.data() + text.size();
}

/// SSSS:BB:DD.F
std::optional<address> parse_address(std::string_view text) {
  auto x = address{};
  if (text.size() != 12 || text[4] != ':' || text[7] != ':' || text[10] != '.'
      || !read_number<16>(text.substr(0, 4), x.segment)
      || !read_number<16>(text.substr(5, 2), x.bus) || !read_number<16>(text.substr(8, 2), x.device)
      || !read_number<16>(text.substr(11), x.function))
    return std::nullopt;
  return x;
}

/// The first bus behind a bridge; 0 for what is none.
unsigned bus_behind(const fs::path& bridge) {
  auto text = std::string{};
  auto bus = 0U;
  auto file = std::ifstream{bridge / "secondary_bus_number"};
  std::getline(file, text);
  return read_number<10>(text, bus) ? bus : 0;
}

std::optional<std::string> port_of(const std::string& sbdf, const std::string& sysfs) {
  auto failure = std::error_code{};
  auto place = fs::canonical(fs::path{sysfs} / "bus/pci/devices" / sbdf, failure);
  if (failure)
    return std::nullopt;
  auto port = std::string{};
  auto first_bus = 0U;
  auto at = fs::path{};
  for (auto& part : place) {
    at /= part;
    auto hop = parse_address(part.string());
    if (!hop)
      continue;
    if (port.empty() && hop->segment != 0)
      port = fmt::format("{:04x}_", hop->segment);
    else if (!port.empty())
      port += '-';
    port += fmt::format("{:02x}_{:02x}.{:x}", hop->bus - first_bus, hop->device, hop->function);
    first_bus = bus_behind(at);
  }
  return port.empty() ? std::nullopt : std::optional{port};
}

} // namespace

std::vector<model::device> place_pci(std::vector<model::device> all, const std::string& sysfs) {
  auto result = std::vector<model::device>{};
  for (auto& x : all)
    if (auto port = port_of(x.port, sysfs)) {
      x.data = {{"sbdf", x.port}};
      x.port = *port;
      result.push_back(std::move(x));
    }
  std::ranges::sort(result, {}, [](auto& x) { return x.port + ':' + x.identity; });
  return result;
}

model::pci_layout survey_pci(const std::string& sysfs) {
  auto result = model::pci_layout{};
  auto failure = std::error_code{};
  constexpr auto root = std::string_view{"pci"};
  for (auto x = fs::directory_iterator{fs::path{sysfs} / "devices", failure};
       !failure && x != fs::directory_iterator{}; x.increment(failure))
    if (auto name = x->path().filename().string(); name.starts_with(root))
      result.root_buses.insert(name.substr(root.size()));
  failure.clear();
  for (auto x = fs::directory_iterator{fs::path{sysfs} / "bus/pci/devices", failure};
       !failure && x != fs::directory_iterator{}; x.increment(failure)) {
    auto address = x->path().filename().string();
    if (auto port = port_of(address, sysfs))
      result.ports.emplace(std::move(address), std::move(*port));
  }
  return result;
}

} // namespace qubes::drivers
