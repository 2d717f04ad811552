// The requests that wait for a domain's stop, and what ends each wait.
#pragma once

#include "model/base/error.hpp"

#include <cstdint>
#include <functional>
#include <vector>

namespace qubes::actors {

enum class waits_as : std::uint8_t {
  shutdown,      ///< asked the guest to shut down; has a deadline of its own
  late_shutdown, ///< a shutdown request that arrived while volumes were being stopped
  kill,
  start, ///< to begin again
};

/// What becomes of a stop.
enum class stop_end : std::uint8_t {
  down,       ///< the domain is halted
  stays,      ///< the guest is not asked to shut down any more
  not_killed, ///< the guest could not be taken down
};

/// Each waiter is told once, by the first thing that ends its wait.
class stop_waiters {
public:
  using told = std::function<void(const model::outcome<void>&)>;

  std::uint64_t add(waits_as how, told then);

  /// Tells the waiters whose wait this ends; `stop_ends` in stop_waiters.cpp says whose.
  void end(stop_end what, const model::outcome<void>& how);

  /// A waiter whose own deadline has passed, or whose request failed: the caller tells it. Null
  /// when it was told before.
  told take(std::uint64_t which);

  bool any(waits_as how) const;

private:
  struct waiter {
    std::uint64_t id;
    waits_as how;
    told then;
  };

  std::vector<waiter> all_;
  std::uint64_t last_ = 0;
};

} // namespace qubes::actors
