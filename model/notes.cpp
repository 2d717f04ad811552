#include "model/notes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

namespace qubes::model {

namespace {

struct range {
  char32_t first, last;
};

/// Not for a screen: controls, invisible marks, direction changes, private use, non-characters.
constexpr std::array hidden{
    range{0x00, 0x08},       range{0x0B, 0x1F},        range{0x7F, 0x9F},     range{0xAD, 0xAD},
    range{0x61C, 0x61C},     range{0x115F, 0x1160},    range{0x180E, 0x180E}, range{0x200B, 0x200F},
    range{0x2028, 0x202E},   range{0x2060, 0x206F},    range{0x3164, 0x3164}, range{0xD800, 0xF8FF},
    range{0xFE00, 0xFE0F},   range{0xFEFF, 0xFEFF},    range{0xFFA0, 0xFFA0}, range{0xFFF0, 0xFFFF},
    range{0xE0000, 0xE0FFF}, range{0xF0000, 0x10FFFF},
};

bool is_hidden(char32_t x) {
  return std::ranges::any_of(hidden, [&](range r) { return x >= r.first && x <= r.last; })
         || (x & 0xFFFE) == 0xFFFE;
}

struct decoded {
  char32_t point;
  std::size_t length;
};

/// The code point at the front; nothing when the bytes are no UTF-8 (overlong and surrogates too).
std::optional<decoded> decode(std::string_view text) {
  auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80)
    return decoded{lead, 1};
  auto length = lead >= 0xF0 ? 4U : lead >= 0xE0 ? 3U : 2U;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length)
    return std::nullopt;
  auto point = static_cast<char32_t>(lead & (0x7FU >> length));
  for (auto i = 1U; i < length; ++i) {
    auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xC0U) != 0x80)
      return std::nullopt;
    point = point << 6 | (next & 0x3FU);
  }
  constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (point < least[length] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
    return std::nullopt;
  return decoded{point, length};
}

} // namespace

outcome<std::string> sanitize_notes(std::string_view text) {
  if (text.size() > largest_notes)
    return fail(errc::protocol, fmt::format("the notes have {} bytes; at most {} are allowed",
                                            text.size(), largest_notes));
  auto result = std::string{};
  result.reserve(text.size());
  while (!text.empty()) {
    auto x = decode(text);
    if (!x)
      return fail(errc::protocol, "the notes are not valid UTF-8");
    if (is_hidden(x->point))
      result += '_';
    else
      result += text.substr(0, x->length);
    text.remove_prefix(x->length);
  }
  return result;
}

} // namespace qubes::model
