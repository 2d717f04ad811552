#include "bin/qvmctl/answers.hpp"

#include "model/base/literal.hpp"
#include "model/base/split.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace qubes::ctl {

std::vector<std::string> lines_of(std::string_view text) {
  auto lines = split(text, '\n');
  return {lines.begin(), lines.end()};
}

std::pair<std::string, std::string> cut_pair(std::string_view text) {
  auto is = text.find('=');
  if (is == std::string_view::npos)
    return {std::string{text}, ""};
  return {std::string{text.substr(0, is)}, std::string{text.substr(is + 1)}};
}

pairs pairs_of(std::string_view text) {
  auto result = pairs{};
  for (auto& x : lines_of(text))
    result.push_back(cut_pair(x));
  return result;
}

std::string value_of(const pairs& all, std::string_view key) {
  auto found = std::find_if(all.begin(), all.end(), [&](auto& x) { return x.first == key; });
  return found == all.end() ? std::string{} : found->second;
}

std::optional<std::int64_t> number_of(const pairs& all, std::string_view key) {
  constexpr auto most = std::int64_t{1} << 56;
  auto text = value_of(all, key);
  auto result = std::int64_t{};
  auto last = text.data() + text.size();
  auto [end, bad] = std::from_chars(text.data(), last, result);
  if (end != last || bad == std::errc::invalid_argument)
    return std::nullopt;
  if (bad != std::errc{})
    return text.starts_with('-') ? -most : most;
  return std::clamp(result, -most, most);
}

std::int64_t percent_of(std::int64_t used, std::int64_t size) {
  return size > 0 ? used * 100 / size : 0;
}

// -- properties ---------------------------------------------------------------------------------

expected<property_value> parse_property(std::string_view text) {
  auto result = property_value{};
  auto take = [&](std::string_view key) -> std::optional<std::string> {
    if (!text.starts_with(key))
      return std::nullopt;
    text.remove_prefix(key.size());
    auto end = text.find(' ');
    if (end == std::string_view::npos)
      return std::nullopt;
    auto value = std::string{text.substr(0, end)};
    text.remove_prefix(end + 1);
    return value;
  };
  auto at_default = take("default=");
  auto type = at_default ? take("type=") : std::nullopt;
  if (!type)
    return tl::unexpected{
        failure{trouble::broken, "", "the daemon's answer is not a property's value", ""}};
  return property_value{*at_default == "True", std::move(*type), std::string{text}};
}

namespace {

std::string unescape(std::string_view text) {
  auto result = std::string{};
  for (auto i = std::size_t{0}; i < text.size(); ++i)
    if (text[i] == '\\' && i + 1 < text.size())
      result += text[++i] == 'n' ? '\n' : text[i];
    else
      result += text[i];
  return result;
}

} // namespace

expected<std::vector<named_property>> parse_properties(std::string_view text) {
  auto result = std::vector<named_property>{};
  for (auto& line : lines_of(text)) {
    auto blank = line.find(' ');
    auto value = parse_property(blank == std::string::npos ? "" : unescape(line.substr(blank + 1)));
    if (!value)
      return tl::unexpected{value.error()};
    result.push_back({line.substr(0, blank), std::move(*value)});
  }
  return result;
}

// -- devices ------------------------------------------------------------------------------------

pairs parse_serialized(std::string_view text) {
  auto result = pairs{};
  while (!(text = model::trimmed(text)).empty()) {
    auto is = text.find("='");
    if (is == std::string_view::npos)
      return result;
    auto key = std::string{text.substr(0, is)};
    text.remove_prefix(is + 2);
    auto value = std::string{};
    while (!text.empty() && text.front() != '\'') {
      if (text.starts_with("\\'"))
        text.remove_prefix(1);
      value += text.front();
      text.remove_prefix(1);
    }
    if (text.empty()) // cut off in the middle
      return result;
    text.remove_prefix(1);
    result.emplace_back(std::move(key), std::move(value));
  }
  return result;
}

std::string serialize(const pairs& all) {
  auto result = std::string{};
  for (auto& [key, value] : all) {
    result += fmt::format("{}{}='", result.empty() ? "" : " ", key);
    for (auto x : value)
      result += x == '\'' ? std::string{"\\'"} : std::string{x};
    result += '\'';
  }
  return result;
}

std::string encoded(std::string_view text) {
  constexpr auto unknown = std::string_view{"?******"};
  auto result = std::string{};
  while (!text.empty()) {
    if (text.starts_with(unknown)) {
      result += "_______";
      text.remove_prefix(unknown.size());
      continue;
    }
    auto x = text.front();
    result += x == ':' ? '+' : x == '*' ? '_' : x;
    text.remove_prefix(1);
  }
  return result;
}

std::optional<assigned_device> parse_assigned(std::string_view klass, std::string_view line) {
  auto blank = line.find(' ');
  auto plus = line.find('+');
  auto colon = line.find(':', plus == std::string_view::npos ? 0 : plus);
  if (blank == std::string_view::npos || plus > blank || colon > blank)
    return std::nullopt;
  auto result = assigned_device{.klass = std::string{klass},
                                .backend = std::string{line.substr(0, plus)},
                                .argument = encoded(line.substr(plus + 1, blank - plus - 1)),
                                .how = parse_serialized(line.substr(blank + 1))};
  if (result.backend == "None")
    result.backend = "_";
  std::erase_if(result.how, [](auto& x) { return x.first != "mode" && x.first[0] != '_'; });
  return result;
}

} // namespace qubes::ctl
