#include "model/base/address.hpp"

#include "model/base/split.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace qubes::model {

namespace {

using groups = std::vector<std::uint16_t>;
constexpr auto group_count = std::size_t{8};

template <class T>
std::optional<T> parse_digits(std::string_view text, std::size_t most, int base) {
  auto x = T{};
  auto end = text.data() + text.size();
  if (text.empty() || text.size() > most || text[0] == '-')
    return std::nullopt;
  if (auto [stop, failure] = std::from_chars(text.data(), end, x, base);
      failure != std::errc{} || stop != end)
    return std::nullopt;
  return x;
}

std::optional<std::array<std::uint8_t, 4>> parse_octets(std::string_view text) {
  auto parts = fields_of(text, '.');
  auto result = std::array<std::uint8_t, 4>{};
  if (parts.size() != result.size())
    return std::nullopt;
  for (auto i = std::size_t{0}; i < result.size(); ++i) {
    auto octet = parse_digits<std::uint8_t>(parts[i], 3, 10);
    if (!octet || (parts[i].size() > 1 && parts[i][0] == '0'))
      return std::nullopt;
    result[i] = *octet;
  }
  return result;
}

/// Groups between colons; the last two may be written as a dotted quad when `tail`.
std::optional<groups> parse_groups(std::string_view text, bool tail) {
  auto result = groups{};
  if (text.empty())
    return result;
  auto parts = fields_of(text, ':');
  for (auto i = std::size_t{0}; i < parts.size(); ++i) {
    if (tail && i + 1 == parts.size() && parts[i].find('.') != parts[i].npos) {
      auto quad = parse_octets(parts[i]);
      if (!quad)
        return std::nullopt;
      auto [a, b, c, d] = *quad;
      result.push_back(static_cast<std::uint16_t>(a << 8 | b));
      result.push_back(static_cast<std::uint16_t>(c << 8 | d));
    } else if (auto group = parse_digits<std::uint16_t>(parts[i], 4, 16)) {
      result.push_back(*group);
    } else {
      return std::nullopt;
    }
  }
  return result;
}

std::optional<groups> parse_all_groups(std::string_view text) {
  auto gap = text.find("::");
  if (gap == text.npos) {
    auto all = parse_groups(text, true);
    return all && all->size() == group_count ? all : std::nullopt;
  }
  auto head = parse_groups(text.substr(0, gap), false);
  auto rest = parse_groups(text.substr(gap + 2), true);
  if (!head || !rest || head->size() + rest->size() >= group_count)
    return std::nullopt;
  head->resize(group_count - rest->size());
  head->insert(head->end(), rest->begin(), rest->end());
  return head;
}

std::string print_groups(const groups& x, std::size_t from, std::size_t to) {
  auto text = std::string{};
  for (auto i = from; i < to; ++i)
    text += fmt::format("{}{:x}", i == from ? "" : ":", x[i]);
  return text;
}

/// The first longest run of two or more zero groups is left out (RFC 5952).
std::string compressed(const groups& x) {
  auto start = std::size_t{0};
  auto length = std::size_t{0};
  for (auto i = std::size_t{0}; i < x.size(); ++i) {
    auto end = i;
    while (end < x.size() && x[end] == 0)
      ++end;
    if (end - i > length) {
      start = i;
      length = end - i;
    }
  }
  if (length < 2)
    return print_groups(x, 0, x.size());
  return print_groups(x, 0, start) + "::" + print_groups(x, start + length, x.size());
}

} // namespace

std::string ipv4_of(std::int64_t number, bool disposable) {
  auto net = disposable ? 138 : 137;
  if (number < 255)
    return fmt::format("10.{}.0.{}", net, number);
  auto n = number - 1; // never ends in .0 or .255
  return fmt::format("10.{}.{}.{}", net, n / 254, n % 254 + 1);
}

std::string ipv6_of(std::int64_t number, bool disposable) {
  return fmt::format("fd09:24ef:4179::{}:{:x}", disposable ? "a8a" : "a89", number);
}

std::optional<std::string> parse_ipv4(std::string_view text) {
  auto octets = parse_octets(text);
  if (!octets)
    return std::nullopt;
  auto [a, b, c, d] = *octets;
  return fmt::format("{}.{}.{}.{}", a, b, c, d);
}

std::optional<std::string> parse_ipv6(std::string_view text) {
  auto all = parse_all_groups(text);
  return all ? std::optional{compressed(*all)} : std::nullopt;
}

} // namespace qubes::model
