// What all fuzzers share: an input as text, cut into parts, and checks.
#pragma once

#include "model/base/characters.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace qubes::tests {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline void must(bool x) {
  if (!x)
    std::abort();
}

/// The text before `end`; all text when there is no `end`.
inline std::string_view take_until(std::string_view& from, char end) {
  auto at = std::min(from.find(end), from.size());
  auto result = from.substr(0, at);
  from.remove_prefix(std::min(at + 1, from.size()));
  return result;
}

/// Whether a log or a terminal can take the text: no line ends, no other control characters.
inline bool is_one_line(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; });
}

inline bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return model::is_printable(c); });
}

} // namespace qubes::tests
