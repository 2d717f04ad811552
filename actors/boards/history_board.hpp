// The last operations of every domain, for requests why one is as it is.
#pragma once

#include "model/system/operation.hpp"

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::actors {

/// Written by the domains, read by the gate; every call is short.
class history_board {
public:
  void adopt(model::operation_history x) {
    auto guard = std::lock_guard{mutex_};
    history_ = std::move(x);
  }

  /// Returns the domain that was forgotten for this operation, "" for none.
  std::string add(const std::string& uuid, model::operation x) {
    auto guard = std::lock_guard{mutex_};
    return history_.add(uuid, std::move(x));
  }

  void forget(const std::string& uuid) {
    auto guard = std::lock_guard{mutex_};
    history_.forget(uuid);
  }

  std::vector<model::operation> of(const std::string& uuid) const {
    auto guard = std::lock_guard{mutex_};
    return history_.of(uuid);
  }

  std::vector<model::operation_history::owned> failures_since(std::int64_t s) const {
    auto guard = std::lock_guard{mutex_};
    return history_.failures_since(s);
  }

private:
  mutable std::mutex mutex_;
  model::operation_history history_;
};

/// An operation that goes on, and the step that it is in.
struct operation_run {
  std::string_view what;
  std::int64_t began_us = 0;
  std::int64_t step_began_us = 0;
  std::vector<model::operation_step> steps{};

  /// This step ends and the next one begins.
  void end_step(std::string_view name, std::int64_t now_us) {
    steps.push_back({std::string{name}, now_us - step_began_us});
    step_began_us = now_us;
  }
};

} // namespace qubes::actors
