#include "model/base/notes.hpp"

#include "model/base/displayable.hpp"

#include <fmt/format.h>

#include <optional>

namespace qubes::model {

namespace {

/// Notes have lines and columns, too.
bool is_shown(char32_t x) {
  return x == U'\t' || x == U'\n' || is_displayable(x);
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
    if (is_shown(x->point))
      result += text.substr(0, x->length);
    else
      result += '_';
    text.remove_prefix(x->length);
  }
  return result;
}

} // namespace qubes::model
