// Asks the host's memory manager to make room for a start, and to take back what a domain that is
// about to rest does not need (spec/qmemman.md §2).
#pragma once

#include "model/base/error.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

namespace qubes::drivers {

using model::outcome;

/// Memory set aside for a start; given back when the last copy is dropped.
using reservation = std::shared_ptr<void>;

/// A place in the line before the memory manager: one is served at a time, through all of its
/// start.
struct place_in_line {
  std::stop_token stop{};         ///< leaves the line
  std::function<void()> served{}; ///< told when the turn has come
};

class memory_manager {
public:
  virtual ~memory_manager() = default;

  /// Waits for the domain's turn as long as it takes, then for room. `no_memory` when there is
  /// none, `general` when no answer comes to one that has its turn.
  virtual outcome<reservation> reserve(const std::string& domain, std::uint64_t bytes,
                                       const place_in_line& place) = 0;

  /// Takes the domain down to what it prefers; waits until it is there.
  virtual outcome<void> shrink(std::int32_t xid) = 0;

  /// Bytes that are free for new domains; nothing when the memory manager does not say.
  virtual std::optional<std::uint64_t> available() = 0;
};

/// The memory manager that listens on `socket`. A connection is a reservation. `limit` is for its
/// answer, from the moment it has read the question.
std::unique_ptr<memory_manager> open_memory_manager(std::string socket,
                                                    std::chrono::milliseconds limit);

} // namespace qubes::drivers
