// Long work that others wait for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <stop_token>

namespace qubes {

/// Long work as its waiters see it: they may break it off, and know that it goes on.
struct cancellation {
  std::stop_source stop{};
  std::atomic<std::int64_t> heard_us{0}; ///< when it last got on
};
using cancellation_ptr = std::shared_ptr<cancellation>;

} // namespace qubes
