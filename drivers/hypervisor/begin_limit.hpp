// drivers/hypervisor: libvirt and libxl.
//
// Until when a piece of work may begin. It has its thread, but may still have to wait unseen: for a
// connection, or for an answer. Its asker is told meanwhile that it was given up, and what was
// given up must not happen afterwards.
#pragma once

#include "model/base/error.hpp"

#include <chrono>
#include <functional>

namespace qubes::drivers {

/// What work hears that was given up before it began.
model::error no_longer_wanted();

/// The limit of what this thread does while the object lives. Work that has begun has none.
class begin_limit {
public:
  using time_left = std::function<std::chrono::milliseconds()>; ///< none is left at 0 and below

  static constexpr auto unlimited = std::chrono::milliseconds::max();

  /// `may_begin` has the last word: false when its asker was told that it is not done.
  explicit begin_limit(
      time_left left, std::function<bool()> may_begin = [] { return true; });
  ~begin_limit();
  begin_limit(const begin_limit&) = delete;
  begin_limit& operator=(const begin_limit&) = delete;

  /// Something that had not begun was refused.
  bool given_up() const { return given_up_; }

  /// How long this thread may wait; `unlimited` where there is no limit.
  static std::chrono::milliseconds left();

  /// Asked after every wait: false when this thread's work is given up.
  static bool may_go_on();

  /// As `may_go_on`, before something is changed: from then on the work is done to its end.
  static bool begin();

private:
  const time_left left_;
  const std::function<bool()> may_begin_;
  begin_limit* const outer_; ///< in a simulation one job may run within another
  bool begun_ = false;
  bool given_up_ = false;
};

} // namespace qubes::drivers
