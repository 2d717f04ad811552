// Messages between QubesDB and its clients.
#pragma once

#include "model/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qubes::drivers::qubesdb {

enum kind : std::uint8_t {
  read_entry = 0,
  write_entry = 1,
  list_entries = 3,
  remove_entry = 4,
  watch_entry = 5,
  ok = 7,
  no_entry = 8,
  entry = 10,
  listed = 12,
  watch_fired = 13,
};

inline constexpr std::size_t head_size = 72; ///< kind, path and size of the data
inline constexpr std::size_t path_limit = 63;
inline constexpr std::size_t value_limit = 3071;

struct message {
  std::uint8_t kind = 0;
  std::string path{};
  std::string data{};

  bool operator==(const message&) const = default;
};

/// What a message begins with.
struct heading {
  std::uint8_t kind = 0;
  std::string path{};
  std::size_t size = 0; ///< of the data that follows
};

/// Of `head_size` bytes. Refuses more data than a value has.
model::outcome<heading> parse_heading(std::string_view bytes);

/// Takes the first message out of what was received; nothing where more of it must come.
model::outcome<std::optional<message>> take_message(std::string_view& from);

/// Its path and data must keep the limits.
std::string bytes_of(const message& x);

} // namespace qubes::drivers::qubesdb
