#include "model/storage/pool_options.hpp"

#include "model/base/literal.hpp"
#include "model/base/split.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace qubes::model {

namespace {

using attributes = std::vector<std::pair<std::string, std::string>>;

outcome<attributes> parse_options(std::string_view payload) {
  auto result = attributes{};
  while (!payload.empty()) {
    auto line = take_python_line(payload);
    auto given = key_value_of(line);
    if (!given)
      return fail(errc::protocol, fmt::format("{} is no KEY=VALUE", quoted(line)),
                  "write one option a line");
    if (std::ranges::any_of(line, [](char c) { return c < ' ' || c == '\x7f'; }))
      return fail(errc::protocol, fmt::format("{} cannot be printed", quoted(line)));
    auto [key, text] = *given;
    if (std::ranges::find(result, key, [](auto& x) { return x.first; }) != result.end())
      return fail(errc::protocol, fmt::format("{} is given twice", quoted(key)));
    result.emplace_back(key, text);
  }
  return result;
}

outcome<void> check_options(const pool_driver& driver, const attributes& given) {
  auto names = std::vector<std::string_view>{"name"};
  for (auto& x : driver.options)
    names.push_back(x.name);
  for (auto& [key, text] : given)
    if (std::ranges::find(names, key) == names.end())
      return fail(errc::protocol,
                  fmt::format("a {} pool has no option {}", driver.name, quoted(key)),
                  fmt::format("options are {}", fmt::join(names, ", ")));
  return {};
}

outcome<std::string> parse_revisions(const pool_driver& driver, std::string_view text) {
  auto count =
      text.empty() ? outcome<std::int64_t>{1} : parse_count(text, "number of revisions", true);
  if (!count)
    return tl::unexpected{std::move(count.error())};
  if (*count < -1 || *count > driver.most_revisions)
    return fail(errc::value, fmt::format("a {} pool cannot keep {} revisions", driver.name, *count),
                driver.most_revisions == pool_driver::no_limit
                    ? "-1 and more are allowed"
                    : fmt::format("-1 to {} are allowed", driver.most_revisions));
  return fmt::format("{}", *count);
}

outcome<std::string> parse_switch(std::string_view text) {
  auto on = parse_boolean(text.empty() ? "False" : text);
  if (!on)
    return fail(errc::value, fmt::format("{} is neither true nor false", quoted(text)));
  return std::string{*on ? "True" : "False"};
}

/// What every pool but one of kernels is asked to say (spec/storage.md §3).
outcome<void> complete_common_options(const pool_driver& driver, pool& x) {
  for (auto name : {"revisions_to_keep", "ephemeral_volatile"})
    if (driver.has_option(name)) {
      auto value = parse_option(driver, name, x.attribute(name));
      if (!value)
        return tl::unexpected{std::move(value.error())};
      x.set(name, std::move(*value));
    }
  return {};
}

} // namespace

pool place_of(pool x) {
  std::erase_if(x.attributes, [](auto& y) {
    return y.first == "revisions_to_keep" || y.first == "ephemeral_volatile";
  });
  std::ranges::sort(x.attributes);
  return x;
}

outcome<void> check_whole(const pool_driver& driver, const pool& x) {
  auto missing = std::vector<std::string_view>{};
  for (auto& option : driver.options)
    if (option.required && x.attribute(option.name).empty())
      missing.push_back(option.name);
  if (!missing.empty())
    return fail(errc::general,
                fmt::format("a {} pool needs {}", driver.name, fmt::join(missing, " and ")));
  return {};
}

outcome<std::string> parse_option(const pool_driver& driver, std::string_view name,
                                  std::string_view text) {
  if (name == "revisions_to_keep")
    return parse_revisions(driver, text);
  if (name == "ephemeral_volatile")
    return parse_switch(text);
  return std::string{text};
}

outcome<pool> parse_pool(std::string_view driver, std::string_view payload) {
  auto* row = find_pool_driver(driver);
  if (!row) {
    auto names = std::vector<std::string_view>{};
    for (auto& x : pool_drivers())
      names.push_back(x.name);
    return fail(errc::permission_denied, fmt::format("there is no driver {}", quoted(driver)),
                fmt::format("drivers are {}", fmt::join(names, ", ")));
  }
  if (!is_ascii(payload))
    return fail(errc::protocol, "the payload must be ASCII");
  auto options = parse_options(payload);
  if (!options)
    return tl::unexpected{std::move(options.error())};
  auto name = std::ranges::find(*options, "name", [](auto& x) { return x.first; });
  if (name == options->end())
    return fail(errc::protocol, "'name' is missing", "every pool has a name");
  if (auto sound = check_pool_name(name->second); !sound)
    return fail(errc::protocol, std::move(sound.error().text), std::move(sound.error().hint));
  if (auto sound = check_options(*row, *options); !sound)
    return tl::unexpected{std::move(sound.error())};
  auto result = pool{.name = name->second, .driver = std::string{driver}, .attributes = {}};
  result.attributes.emplace_back("name", result.name);
  for (auto& x : *options)
    if (x.first != "name")
      result.attributes.push_back(x);
  result.attributes.emplace_back("driver", result.driver);
  if (auto whole = check_whole(*row, result); !whole)
    return tl::unexpected{std::move(whole.error())};
  if (auto completed = complete_common_options(*row, result); !completed)
    return tl::unexpected{std::move(completed.error())};
  if (row->has_option("dir_path") && !result.attribute("dir_path").starts_with('/'))
    return fail(errc::storage,
                fmt::format("{} is no absolute path", quoted(result.attribute("dir_path"))));
  return result;
}

} // namespace qubes::model
