// How often a part of the runtime died, and when it begins again: at once as long as that is rare,
// later and later when it is not, and never not at all.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>

namespace qubes::actors {

class restarts {
public:
  /// An actor died. Its successor begins `rest` from now.
  std::chrono::microseconds note(std::int64_t now_us) {
    constexpr auto span_us = std::chrono::microseconds{std::chrono::seconds{10}}.count();
    constexpr auto at_once = std::size_t{5}; // of one span
    constexpr auto first = std::chrono::seconds{1};
    constexpr auto most = std::chrono::seconds{60};
    ++count_;
    std::erase_if(recent_, [&](auto at) { return now_us - at >= span_us; });
    if (now_us - ready_us_ >= span_us) // what began last went well for a while
      rest_ = {};
    recent_.push_back(now_us);
    if (recent_.size() > at_once || rest_.count() > 0)
      rest_ = std::clamp<std::chrono::microseconds>(rest_ * 2, first, most);
    ready_us_ = now_us + rest_.count();
    return rest_;
  }

  bool may_begin(std::int64_t now_us) const { return now_us >= ready_us_; }

  std::uint64_t count() const { return count_; } ///< in all

private:
  std::deque<std::int64_t> recent_;
  std::chrono::microseconds rest_{0};
  std::int64_t ready_us_ = 0;
  std::uint64_t count_ = 0;
};

} // namespace qubes::actors
