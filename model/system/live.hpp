// Runtime facts of every domain, readable in any thread at any time without a message or a lock.
#pragma once

#include "model/base/hypervisor_kind.hpp"
#include "model/base/literal.hpp"
#include "model/base/power.hpp"

#include <array>
#include <atomic>
#include <cstdint>

namespace qubes::model {

/// What is known of a domain's present life.
struct live {
  power state = power::halted;
  std::int32_t xid = -1;         ///< hypervisor domain id, -1 when not running
  std::int32_t stubdom_xid = -1; ///< of the stub domain, -1 for none
  uuid_halves stubdom_uuid{};    ///< zero for none
  std::int64_t started_us = 0;   ///< microseconds since the epoch, 0 when not running
  bool agent = false;            ///< the qrexec agent is connected
  bool going_down = false;       ///< the guest was asked to shut down
  bool degraded = false;         ///< something of it hangs or failed; `qvmctl status` tells what
  hypervisor_id at = hypervisor_id::host; ///< where it runs

  bool operator==(const live&) const = default;
};

/// One slot per qid. Written by the owning domain only; readers may see a slot between two writes
/// of one update, each field being true by itself.
class live_board {
public:
  static constexpr std::size_t capacity = 10001; ///< qids 0..10000 (spec/vm-classes.md §4)

  live read(std::int64_t qid) const noexcept;

  void write(std::int64_t qid, const live& x) noexcept;

  void clear(std::int64_t qid) noexcept { write(qid, {}); }

private:
  struct slot {
    std::atomic<std::uint64_t> flags_and_xid{0xFFFFFFFFU};
    std::atomic<std::int32_t> stubdom_xid{-1};
    std::array<std::atomic<std::uint64_t>, 2> stubdom_uuid{};
    std::atomic<std::int64_t> started_us{0};
  };

  std::array<slot, capacity> slots_;
};

} // namespace qubes::model
