// How far something long is: what is done, how fast, and how long it will take.
#pragma once

#include "bin/qvmctl/client.hpp"
#include "bin/qvmctl/output.hpp"

#include <cstdint>
#include <mutex>
#include <string>

namespace qubes::ctl {

/// "work:private  1.0 GiB of 2.0 GiB, 100.0 MiB/s, 10 s left"; a `total` of 0 is not known.
std::string progress_text(std::string_view what, std::int64_t done, std::int64_t total,
                          double seconds);

/// One moving line; from any thread.
class progress {
public:
  progress(const screen& on, std::string what, std::int64_t total);

  void at(std::int64_t done);
  void add(std::int64_t more);
  /// From nothing, to another total.
  void restart(std::int64_t total);
  void clear();

private:
  using clock = std::chrono::steady_clock;

  void draw();

  std::mutex mutex_;
  live_area area_;
  std::string what_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  time_point begun_, next_;
};

} // namespace qubes::ctl
