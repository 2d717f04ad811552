#include "drivers/host/kept_operations.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <string_view>
#include <tuple>

namespace qubes::drivers {

namespace {

using json = nlohmann::json;
using model::errc;
using model::operation;

constexpr auto directory = std::string_view{"operations"};
constexpr auto tail = std::string_view{".json"};
constexpr auto largest = std::size_t{256} << 10;

std::string file_of(std::string_view uuid) {
  return fmt::format("{}/{}{}", directory, uuid, tail);
}

// -- a file ---------------------------------------------------------------------------------------

json to_json(const operation& x) {
  auto steps = json::array();
  for (auto& step : x.steps)
    steps.push_back({step.name, step.us});
  auto result = json{{"what", x.what}, {"ended", x.ended_s}, {"us", x.us}, {"steps", steps}};
  if (x.failed())
    result["failure"] = {{"step", x.failure.step},
                         {"exception", x.failure.exception},
                         {"cause", x.failure.cause},
                         {"remedy", x.failure.remedy}};
  return result;
}

/// Throws, as the library does, where a value is missing or of another type.
operation from_json(const json& x) {
  auto result = operation{.what = x.at("what").get<std::string>(),
                          .ended_s = x.at("ended").get<std::int64_t>(),
                          .us = x.at("us").get<std::int64_t>()};
  for (auto& step : x.at("steps"))
    result.steps.push_back({step.at(0).get<std::string>(), step.at(1).get<std::int64_t>()});
  if (auto failure = x.find("failure"); failure != x.end())
    result.failure = {.step = failure->at("step").get<std::string>(),
                      .exception = failure->at("exception").get<std::string>(),
                      .cause = failure->at("cause").get<std::string>(),
                      .remedy = failure->at("remedy").get<std::string>()};
  return result;
}

outcome<std::vector<operation>> parse(std::string_view text) {
  try {
    auto result = std::vector<operation>{};
    for (auto& x : json::parse(text))
      result.push_back(from_json(x));
    return result;
  } catch (const json::exception& x) {
    return model::fail(errc::store, fmt::format("it is damaged: {}", x.what()));
  }
}

outcome<std::vector<operation>> read(disk& state, const std::string& file) {
  auto text = state.read(file, largest);
  if (!text)
    return tl::unexpected{text.error()};
  return *text ? parse(**text) : std::vector<operation>{};
}

/// Waits for no disk: a start must not be slower for it. What a power cut damages is forgotten.
outcome<void> overwrite(disk& state, const std::string& file, const std::string& text) {
  auto fresh = file + ".new";
  return state.write(fresh, text).and_then([&] { return state.rename(fresh, file); });
}

} // namespace

outcome<void> keep_operations(disk& state, const std::string& uuid,
                              const std::vector<operation>& all) {
  auto file = file_of(uuid);
  if (all.empty())
    return state.remove(file);
  auto lines = json::array();
  for (auto& x : all)
    lines.push_back(to_json(x));
  return state.make_directory(std::string{directory}).and_then([&] {
    return overwrite(state, file, lines.dump(-1, ' ', false, json::error_handler_t::replace));
  });
}

operations_found find_operations(disk& state,
                                 const std::function<bool(const std::string& uuid)>& wanted) {
  auto result = operations_found{};
  auto names = state.list(std::string{directory});
  if (!names)
    result.unreadable.push_back(names.error().text);
  for (auto& name : names.value_or(std::vector<std::string>{})) {
    auto path = fmt::format("{}/{}", directory, name);
    auto uuid = name.substr(0, name.find('.'));
    if (path != file_of(uuid) || !wanted(uuid)) {
      std::ignore = state.remove(path);
      continue;
    }
    if (auto all = read(state, path))
      result.history.put(uuid, std::move(*all));
    else
      result.unreadable.push_back(fmt::format("{}: {}", path, all.error().text));
  }
  return result;
}

} // namespace qubes::drivers
