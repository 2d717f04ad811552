// What all fuzzers share: an input as text, cut into parts, and checks.
#pragma once

#include "model/base/split.hpp"

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

using model::take_until;

/// Whether a log or a terminal can take the text: no line ends, no other control characters.
inline bool is_one_line(std::string_view text) {
  return std::ranges::none_of(text, [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; });
}

inline bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return model::is_printable(c); });
}

} // namespace qubes::tests
