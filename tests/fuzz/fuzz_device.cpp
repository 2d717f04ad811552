// Bytes as devices: what clients write of them, and what a backend's QubesDB says.
#include "model/base/split.hpp"
#include "model/device/device.hpp"
#include "model/device/guest_devices.hpp"

#include <algorithm>
#include <cstdlib>

namespace {

using namespace qubes::model;

void must_print(std::string_view text) {
  if (!text.ends_with('\n') || std::ranges::count(text, '\n') != 1
      || !std::ranges::all_of(text, [](char c) { return (c >= ' ' && c <= '~') || c == '\n'; }))
    std::abort();
}

void check_backend(std::string_view kind, std::string_view text) {
  auto folder = std::string{find_device_kind(kind)->listing};
  auto entries = listing{};
  while (!text.empty()) {
    auto line = take_until(text, '\n');
    auto equals = std::min(line.find('='), line.size());
    entries.emplace_back(folder + '/' + std::string{line.substr(0, equals)},
                         line.substr(std::min(equals + 1, line.size())));
  }
  for (auto& x : listed_devices(kind, "sys-usb", entries, {microphone()}))
    must_print(print_available(kind, x));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto all = make_system("/var/lib/qubes");
  auto text = std::string_view{reinterpret_cast<const char*>(data), size};
  auto end = std::min(text.find('\n'), text.size());
  static const auto no_live_facts = live_board{};
  static const auto machine = host{};
  auto wanted = parse_assignment({all, no_live_facts, machine}, "block", text.substr(0, end),
                                 text.substr(std::min(end + 1, text.size())));
  if (wanted)
    must_print(print_assigned("block", wanted->what));
  for (auto kind : {"block", "usb", "webcam"})
    check_backend(kind, text);
  return 0;
}
