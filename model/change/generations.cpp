#include "model/change/generations.hpp"

#include <chrono>
#include <ranges>
#include <set>
#include <utility>

namespace qubes::model {

namespace {

using namespace std::chrono_literals;

/// Up to an age, one is kept of each span.
struct grain {
  std::chrono::nanoseconds age;
  std::chrono::nanoseconds span;
};

constexpr auto day = 24h;

constexpr grain grains[]{{day, 1h}, {31 * day, day}, {366 * day, 7 * day}};

} // namespace

std::vector<generation> surplus(const std::vector<generation>& known, std::int64_t now_ns,
                                std::size_t recent) {
  auto result = std::vector<generation>{};
  auto spans = std::set<std::pair<std::int64_t, std::int64_t>>{}; // length and number of each
  auto is_first_of_span = [&](const generation& x) {
    for (auto& it : grains)
      if (now_ns - x.written_ns < it.age.count())
        return spans.emplace(it.span.count(), x.written_ns / it.span.count()).second;
    return false;
  };
  auto kept = std::size_t{0};
  for (auto& x : known | std::views::reverse) {
    if (kept < recent)
      ++kept;
    else if (recent == 0 || !is_first_of_span(x))
      result.push_back(x);
  }
  return result;
}

} // namespace qubes::model
