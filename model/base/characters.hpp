#pragma once

/// Kinds of ASCII characters, whatever the locale says.
namespace qubes::model {

constexpr bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

constexpr bool is_upper(char c) noexcept {
  return c >= 'A' && c <= 'Z';
}

constexpr bool is_letter(char c) noexcept {
  return (c >= 'a' && c <= 'z') || is_upper(c);
}

constexpr char upper(char c) noexcept {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

constexpr bool is_alphanumeric(char c) noexcept {
  return is_letter(c) || is_digit(c);
}

/// Shown by a terminal as itself, the blank included.
constexpr bool is_printable(char c) noexcept {
  return c >= ' ' && c <= '~';
}

} // namespace qubes::model
