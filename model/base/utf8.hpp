// Characters of more than one byte.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace qubes::model {

/// Length of the UTF-8 sequence of several bytes that starts here; 0 when it is none or names no
/// character.
constexpr std::size_t utf8_length(std::string_view x) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(x[i]); };
  if (x.empty())
    return 0;
  auto first = byte(0);
  auto length = first >= 0xF0 ? std::size_t{4} : first >= 0xE0 ? std::size_t{3} : std::size_t{2};
  if (first < 0xC2 || first > 0xF4 || x.size() < length)
    return 0;
  for (auto i = std::size_t{1}; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80)
      return 0;
  auto second = byte(1);
  auto impossible = (first == 0xE0 && second < 0xA0)      // longer than needed
                    || (first == 0xED && second >= 0xA0)  // surrogates
                    || (first == 0xF0 && second < 0x90)   // longer than needed
                    || (first == 0xF4 && second >= 0x90); // past the last character
  return impossible ? 0 : length;
}

constexpr bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    auto length = static_cast<unsigned char>(text[0]) < 0x80 ? 1 : utf8_length(text);
    if (length == 0)
      return false;
    text.remove_prefix(length);
  }
  return true;
}

/// Length of the character that starts here when Python's str.split takes it for a blank, else 0.
constexpr std::size_t blank_length(std::string_view x) {
  if (x.empty())
    return 0;
  auto first = static_cast<unsigned char>(x[0]);
  if (first == ' ' || (first >= '\t' && first <= '\r') || (first >= 0x1C && first <= 0x1F))
    return 1;
  constexpr std::string_view beyond_ascii[]{
      "\u0085", "\u00A0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003",
      "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200A",
      "\u2028", "\u2029", "\u202F", "\u205F", "\u3000",
  };
  for (auto blank : beyond_ascii)
    if (x.starts_with(blank))
      return blank.size();
  return 0;
}

} // namespace qubes::model
