// JSON that others wrote: no deeper than those bear who copy, print or flatten it, all of which
// call themselves for each level.
#pragma once

#include <nlohmann/json.hpp>

#include <utility>

namespace qubes::drivers {

/// A text or a stream. What is no JSON, or too deep, is discarded.
template <class Source>
nlohmann::json parse_json(Source&& from, bool with_comments = false) {
  constexpr auto deepest = 100;
  auto too_deep = false;
  auto bear = [&](int depth, nlohmann::json::parse_event_t, const nlohmann::json&) {
    too_deep |= depth > deepest;
    return !too_deep;
  };
  auto result = nlohmann::json::parse(std::forward<Source>(from), bear, false, with_comments);
  return too_deep ? nlohmann::json(nlohmann::json::value_t::discarded) : result;
}

} // namespace qubes::drivers
