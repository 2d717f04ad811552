// Texts taken apart at a character: lines, words, fields. What is returned are views of the text.
#pragma once

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

namespace qubes::model {

/// Takes the text before the next `end`, and that `end`; all of it where there is none.
constexpr std::string_view take_until(std::string_view& from, char end) noexcept {
  auto result = from.substr(0, from.find(end));
  from.remove_prefix(std::min(result.size() + 1, from.size()));
  return result;
}

/// Takes the first line, which ends where Python's `splitlines` sees an end, as far as ASCII goes.
constexpr std::string_view take_python_line(std::string_view& from) noexcept {
  auto result = from.substr(0, from.find_first_of("\n\r\v\f\x1c\x1d\x1e"));
  auto end = from.substr(result.size()).starts_with("\r\n") ? 2U : 1U;
  from.remove_prefix(std::min(result.size() + end, from.size()));
  return result;
}

/// The parts between separators; what ends with one has no empty part behind it.
inline std::vector<std::string_view> split(std::string_view text, char separator) {
  auto result = std::vector<std::string_view>{};
  while (!text.empty())
    result.push_back(take_until(text, separator));
  return result;
}

/// The parts around separators: one more than there are of these, empty ones as well.
inline std::vector<std::string_view> fields_of(std::string_view text, char separator) {
  auto result = split(text, separator);
  if (text.empty() || text.back() == separator)
    result.push_back(text.substr(text.size()));
  return result;
}

/// `KEY=VALUE`; a value may have further `=`.
struct key_value {
  std::string_view key;
  std::string_view value;
};

/// Nothing where there is no `=`.
constexpr std::optional<key_value> key_value_of(std::string_view text) noexcept {
  auto equals = text.find('=');
  if (equals == text.npos)
    return std::nullopt;
  return key_value{text.substr(0, equals), text.substr(equals + 1)};
}

inline constexpr auto any_blank = std::string_view{" \t\n\v\f\r"};

/// The parts between blanks, of which several may follow one another.
inline std::vector<std::string_view> words_of(std::string_view text,
                                              std::string_view blanks = " ") {
  auto result = std::vector<std::string_view>{};
  for (auto at = text.find_first_not_of(blanks); at != text.npos;
       at = text.find_first_not_of(blanks)) {
    text.remove_prefix(at);
    result.push_back(text.substr(0, text.find_first_of(blanks)));
    text.remove_prefix(result.back().size());
  }
  return result;
}

} // namespace qubes::model
