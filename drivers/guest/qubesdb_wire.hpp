// Messages between QubesDB and its clients.
#pragma once

#include <cstddef>
#include <cstdint>

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

/// As on the wire; numbers in the machine's own order.
struct header {
  std::uint8_t type;
  char path[64];
  char unused[3];
  std::uint32_t size;
};
static_assert(sizeof(header) == 72);

inline constexpr std::size_t path_limit = sizeof(header::path) - 1;
inline constexpr std::size_t value_limit = 3071;

} // namespace qubes::drivers::qubesdb
