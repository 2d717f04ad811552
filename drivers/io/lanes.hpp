// Threads for blocking calls. Jobs of one lane and key run in order, one at a time; jobs of
// different keys never wait for each other while a thread is free.
#pragma once

#include "model/base/lane.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace qubes::drivers {

using model::lane;
using model::lane_count;

/// Where blocking work runs. The simulation has its own.
class executor {
public:
  virtual ~executor() = default;

  /// Runs `job` on a thread of `where`; `key` is the domain's name, or "" for no order.
  /// Must not be called by a job that then waits for it. False when the host gives no thread and
  /// none is there that could come to it: the job is not run then.
  [[nodiscard]] virtual bool post(lane where, std::string key, std::function<void()> job) = 0;
};

/// Plain threads, started when there is work for them, up to `width` of the lane; those of rescue
/// are there from the start, whatever the host refuses later.
class lanes final : public executor {
public:
  struct widths {
    unsigned host = 4;
    unsigned build = 8;
    unsigned guest = 64;   ///< a frozen guest costs one until its deadline
    unsigned agent = 4096; ///< as many as there may be guests whose agents do not answer
    unsigned rescue = 4;
    unsigned disk = 1;
    unsigned storage = 4096; ///< each pool has its own bound
    unsigned backup = 4;
    unsigned user = 16;
    unsigned keep = 4;                         ///< idle threads of a lane that stay
    std::chrono::milliseconds patience{10000}; ///< how long the others wait for work
  };

  /// Throws std::system_error when the host gives no threads for rescue.
  explicit lanes(widths x);

  /// Finishes what was posted, then joins.
  ~lanes() override;

  lanes(const lanes&) = delete;
  lanes& operator=(const lanes&) = delete;

  bool post(lane where, std::string key, std::function<void()> job) override;

  /// Jobs posted and not finished, over all lanes; for status and tests.
  std::size_t pending() const;

  /// Waits until this lane has nothing to do, at most `limit`; true when it has not.
  bool finish(lane where, std::chrono::milliseconds limit);

private:
  class pool;
  std::atomic<std::size_t> pending_{0};
  std::unique_ptr<pool> pools_[lane_count];
};

} // namespace qubes::drivers
