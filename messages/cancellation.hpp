// Long work that others wait for.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

namespace qubes {

/// Long work as its waiters see it: they may break it off, and know that it goes on.
struct cancellation {
  std::stop_source stop{};
  std::atomic<std::int64_t> heard_us{0};                             ///< when it last got on
  std::optional<std::stop_callback<std::function<void()>>> at_end{}; ///< of what goes on till then
};
using cancellation_ptr = std::shared_ptr<cancellation>;

inline bool is_cancelled(const cancellation_ptr& x) {
  return x && x->stop.stop_requested();
}

} // namespace qubes
