#include "model/base/literal.hpp"

#include "model/base/characters.hpp"
#include "model/base/utf8.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace qubes::model {

namespace {

constexpr auto most_digits = std::size_t{18};

constexpr std::string_view blanks = " \t\n\r\v\f";
constexpr auto longest_shown = std::size_t{64};

constexpr bool is_hex(char c) noexcept {
  return is_digit(c) || (c >= 'a' && c <= 'f');
}

bool is_signed(std::string_view text) noexcept {
  return !text.empty() && (text[0] == '-' || text[0] == '+');
}

} // namespace

std::string_view trimmed(std::string_view text) noexcept {
  auto first = text.find_first_not_of(blanks);
  if (first == text.npos)
    return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

bool is_integer(std::string_view text) noexcept {
  auto digits = trimmed(text);
  if (is_signed(digits))
    digits.remove_prefix(1);
  auto after_digit = false; // an underscore stands between two digits
  for (auto c : digits) {
    if (!is_digit(c) && !(c == '_' && after_digit))
      return false;
    after_digit = is_digit(c);
  }
  return after_digit;
}

std::optional<std::int64_t> parse_integer(std::string_view text) noexcept {
  if (!is_integer(text))
    return std::nullopt;
  auto digits = trimmed(text);
  auto result = std::int64_t{0};
  for (auto c : digits)
    if (is_digit(c)) {
      result = result * 10 + (c - '0');
      if (result > integer_limit)
        return std::nullopt;
    }
  return digits[0] == '-' ? -result : result;
}

std::int64_t clamped_integer(std::string_view text) noexcept {
  auto negative = trimmed(text).starts_with('-');
  return parse_integer(text).value_or(negative ? -integer_limit : integer_limit);
}

std::string plain_integer(std::string_view text) {
  auto digits = std::string{};
  for (auto c : text)
    if (is_digit(c) && (c != '0' || !digits.empty()))
      digits += c;
  if (digits.empty())
    return "0";
  return trimmed(text).starts_with('-') ? '-' + digits : digits;
}

outcome<std::int64_t> parse_count(std::string_view text, std::string_view what, bool negative) {
  auto digits = text;
  auto minus = negative && digits.starts_with('-');
  if (minus)
    digits.remove_prefix(1);
  auto sound = !digits.empty() && digits.size() <= most_digits
               && digits.find_first_not_of("0123456789") == digits.npos
               && (digits.size() == 1 || digits.front() != '0');
  if (!sound)
    return fail(errc::protocol, fmt::format("{} is no {}", quoted(text), what),
                fmt::format("write up to {} digits without leading zeros", most_digits));
  auto number = std::int64_t{0};
  for (auto c : digits)
    number = number * 10 + (c - '0');
  return minus ? -number : number;
}

std::optional<bool> parse_boolean(std::string_view text) {
  static constexpr auto falsy = std::array<std::string_view, 4>{"0", "no", "false", "off"};
  static constexpr auto truthy = std::array<std::string_view, 4>{"1", "yes", "true", "on"};
  auto word = lower_case(text);
  if (std::find(falsy.begin(), falsy.end(), word) != falsy.end())
    return false;
  if (std::find(truthy.begin(), truthy.end(), word) != truthy.end())
    return true;
  return std::nullopt;
}

bool is_ascii(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_plain_text(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return is_printable(c) || c == '\t' || c == '\n' || c == '\r'; });
}

std::optional<std::string> parse_uuid(std::string_view text) {
  auto digits = std::string{};
  auto bare = lower_case(text);
  if (bare.starts_with("urn:uuid:"))
    bare.erase(0, 9);
  for (auto c : bare)
    if (c != '-' && c != '{' && c != '}')
      digits += c;
  if (digits.size() != 32 || !std::all_of(digits.begin(), digits.end(), is_hex))
    return std::nullopt;
  for (auto at : {20, 16, 12, 8})
    digits.insert(static_cast<std::size_t>(at), "-");
  return digits;
}

uuid_halves uuid_as_number(std::string_view text) {
  auto digits = parse_uuid(text).value_or("");
  std::erase(digits, '-');
  auto result = uuid_halves{};
  if (!digits.empty()) {
    auto* middle = digits.data() + digits.size() / 2;
    std::from_chars(digits.data(), middle, result[0], 16);
    std::from_chars(middle, digits.data() + digits.size(), result[1], 16);
  }
  return result;
}

std::string uuid_text(const uuid_halves& x) {
  return parse_uuid(fmt::format("{:016x}{:016x}", x[0], x[1])).value_or("");
}

std::string lower_case(std::string_view text) {
  auto result = std::string{text};
  for (auto& c : result)
    if (c >= 'A' && c <= 'Z')
      c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::string quoted(std::string_view text) {
  auto result = std::string{"'"};
  for (auto c : text.substr(0, longest_shown))
    result += is_printable(c) ? c : '?';
  return result + (text.size() > longest_shown ? "...'" : "'");
}

std::string one_line(std::string_view text) {
  constexpr auto after_controls = std::string_view{"\u00A0"}; // of those beyond ASCII
  auto result = std::string{};
  while (!text.empty()) {
    auto character = text.substr(0, std::max(utf8_length(text), std::size_t{1}));
    auto fits = character.size() == 1   ? is_printable(character[0])
                : character.size() == 2 ? character >= after_controls
                                        : true;
    result += fits ? character : "?";
    text.remove_prefix(character.size());
  }
  return result;
}

} // namespace qubes::model
