// actors/storage: the actors of pools, and of qubes.xml on its disk.
//
// One piece of work in a pool, from the order to its end.
#pragma once

#include "actors/boards/content_uses.hpp"
#include "actors/boards/volume_board.hpp"
#include "actors/storage/pool_jobs.hpp"
#include "messages/cancellation.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <variant>
#include <vector>

namespace qubes::actors {

struct piece {
  piece(std::uint64_t number, const pool_job& job, pool_reply to);

  template <class Job>
  bool is() const {
    return std::holds_alternative<typed_disk_job<Job>>(what.what);
  }
  /// Null when it is another job.
  template <class Job>
  typed_disk_job<Job>* as() {
    return std::get_if<typed_disk_job<Job>>(&what.what);
  }
  const volume_turn* turn() const { return at ? &*at : nullptr; }

  const std::uint64_t number;
  pool_job what;
  const disk_job::manner& how;
  const pool_reply to;
  std::optional<volume_turn> at; ///< of a job about a volume
  const std::string key;         ///< of its strand; "" for no order
  const cancellation_ptr owner;  ///< of the actor that may break it off, and hears that it gets on
  std::string other{};
  std::int64_t since_us = 0;
  bool at_work = false;
  bool given_up = false;
  bool undone = false;   ///< what came too late
  bool waits = false;    ///< for readers
  bool doubtful = false; ///< the volume was marked failed at the begin
  volume_board::moment begun{};
  std::vector<content_uses::hold> holds{}; ///< as long as a thread is at it
  /// What the thread at work says, and is told.
  const cancellation_ptr signs = std::make_shared<cancellation>();
  std::optional<std::stop_callback<std::function<void()>>> link{};
};

using piece_ptr = std::shared_ptr<piece>;

} // namespace qubes::actors
