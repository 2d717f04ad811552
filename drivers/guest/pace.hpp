// How often something may be done: so many times a second, and that many at once after a rest.
#pragma once

#include <algorithm>
#include <chrono>

namespace qubes::drivers {

/// Of one kind of thing, for one who does it.
class pace {
public:
  using clock = std::chrono::steady_clock;

  explicit pace(unsigned per_second)
      : interval_(clock::duration{std::chrono::seconds{1}} / per_second) {}

  /// Whether it may be done now; if so, that is counted.
  bool take(clock::time_point now) {
    if (now < due())
      return false;
    paid_until_ = std::max(paid_until_, now) + interval_;
    return true;
  }

  /// When it may be done next.
  clock::time_point due() const { return paid_until_ - std::chrono::seconds{1} + interval_; }

private:
  clock::duration interval_;
  clock::time_point paid_until_{}; ///< by what was done
};

} // namespace qubes::drivers
