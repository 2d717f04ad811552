#include "model/base/name.hpp"

#include "model/base/characters.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace qubes::model {

namespace {

constexpr auto stub_suffix = std::string_view{"-dm"};

constexpr auto longest_name = std::size_t{31};

constexpr bool is_safe(char c) noexcept {
  return is_alphanumeric(c) || c == '-' || c == '_' || c == '.';
}

bool all_safe(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_safe);
}

tl::unexpected<error> bad_domain(std::string_view text, std::string_view rule,
                                 std::string hint = {}) {
  return fail(errc::value, fmt::format("{} is no domain name: {}", quoted(text), rule),
              std::move(hint));
}

} // namespace

outcome<domain_name> domain_name::parse(std::string_view text) {
  if (text.size() > longest_name)
    return bad_domain(
        text, fmt::format("it has {} characters, {} are allowed", text.size(), longest_name));
  if (text.empty())
    return bad_domain(text, "it is empty");
  if (!is_letter(text[0]))
    return bad_domain(text, "the first character must be a letter");
  if (!all_safe(text))
    return bad_domain(text, "only letters, digits and '-', '_', '.' are allowed");
  for (auto reserved : {"Domain-0", "none", "default"})
    if (text == reserved)
      return bad_domain(text, "it is reserved");
  if (text.ends_with(stub_suffix))
    return bad_domain(text, "names that end in '-dm' belong to stub domains");
  return domain_name{std::string{text}};
}

bool listed_before(std::string_view a, std::string_view b) noexcept {
  if (a == "dom0" || b == "dom0")
    return a == "dom0" && b != "dom0";
  return a < b;
}

std::string stub_domain_of(std::string_view guest) {
  return fmt::format("{}{}", guest, stub_suffix);
}

std::string_view guest_of_stub(std::string_view name) noexcept {
  return name.ends_with(stub_suffix) ? name.substr(0, name.size() - stub_suffix.size()) : name;
}

outcome<void> check_feature_name(std::string_view text) {
  if (all_safe(text))
    return {};
  return fail(errc::protocol, fmt::format("{} is no feature name", quoted(text)),
              "use letters, digits and '-', '_', '.'");
}

outcome<void> check_feature_value(std::string_view feature, std::string_view text) {
  if (std::all_of(text.begin(), text.end(), is_printable))
    return {};
  return fail(errc::protocol,
              fmt::format("the value of feature {} has characters that are not printable ASCII",
                          quoted(feature)));
}

outcome<void> check_tag(std::string_view text) {
  if (all_safe(text) && text.find('.') == text.npos)
    return {};
  return fail(errc::invalid_tag, fmt::format("{} is no tag", quoted(text)),
              "use letters, digits and '-', '_'");
}

outcome<void> check_label_name(std::string_view text, bool creating) {
  if (!all_safe(text))
    return fail(errc::invalid_label, fmt::format("{} is no label name", quoted(text)),
                "use letters, digits and '-', '_', '.'");
  if (creating && std::all_of(text.begin(), text.end(), is_digit))
    return fail(errc::invalid_label, fmt::format("label name {} is a number", quoted(text)),
                "add a letter, a number alone means the index of a label");
  return {};
}

outcome<void> check_pool_name(std::string_view text) {
  if (all_safe(text) && text != "." && text != "..")
    return {};
  return fail(errc::protocol, fmt::format("{} is no pool name", quoted(text)),
              "use letters, digits and '-', '_', '.'");
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  auto row = std::vector<std::size_t>(b.size() + 1); // for i letters of `a` and j of `b`
  std::iota(row.begin(), row.end(), std::size_t{0});
  auto above = row;
  auto higher = row;
  for (auto i = std::size_t{1}; i <= a.size(); ++i) {
    std::swap(higher, above);
    std::swap(above, row);
    row[0] = i;
    for (auto j = std::size_t{1}; j <= b.size(); ++j) {
      auto replaced = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], higher[j - 2] + 1);
    }
  }
  return row.back();
}

} // namespace qubes::model
