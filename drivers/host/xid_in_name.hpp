// Names that this host's kernel gives to its ends of guests' devices.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace qubes::drivers {

/// The xid between `prefix` and `end`: "vbd-7-51712" is of 7 with "vbd-" and '-', "vif7.0" with
/// "vif" and '.'.
inline std::optional<std::int32_t> xid_in(std::string_view name, std::string_view prefix,
                                          char end) {
  if (!name.starts_with(prefix))
    return std::nullopt;
  name.remove_prefix(prefix.size());
  auto xid = std::int32_t{0};
  auto [at, bad] = std::from_chars(name.data(), name.data() + name.size(), xid);
  auto whole = bad == std::errc{} && at != name.data() + name.size() && *at == end;
  return whole ? std::optional{xid} : std::nullopt;
}

} // namespace qubes::drivers
