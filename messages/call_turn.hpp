// Whether a call is made or given up.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace qubes {

/// Of a call that one side waits for while another thread is to make it: the first of the two
/// decides, and the other one hears of it. So what was refused for waiting too long is not made
/// afterwards.
class call_turn {
public:
  /// From now on the call is made. False when it was given up before.
  bool begin() { return decide(state::begun); }
  /// The call is not made. False when it was begun before, and may be made still.
  bool give_up() { return decide(state::given_up); }

private:
  enum class state : std::uint8_t { open, begun, given_up };

  bool decide(state wanted) {
    auto found = state::open;
    return state_.compare_exchange_strong(found, wanted) || found == wanted;
  }

  std::atomic<state> state_ = state::open;
};

using call_turn_ptr = std::shared_ptr<call_turn>;

} // namespace qubes
