// A value that one writer replaces and anyone reads as a snapshot.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace qubes {

/// The lock is held for the copy of one pointer only; nobody ever waits for work.
template <class T>
class published {
public:
  explicit published(std::shared_ptr<const T> first = std::make_shared<const T>())
      : value_(std::move(first)) {}

  std::shared_ptr<const T> read() const {
    auto guard = std::lock_guard{mutex_};
    return value_;
  }

  void write(std::shared_ptr<const T> next) {
    {
      auto guard = std::lock_guard{mutex_};
      value_.swap(next);
    }
    // The old value, if this was its last holder, dies here: outside the lock.
  }

  /// For several writers: each change sees the one before.
  template <class Change>
  void update(Change change) {
    auto guard = std::lock_guard{mutex_};
    auto next = std::make_shared<T>(*value_);
    change(*next);
    value_ = std::move(next);
  }

private:
  mutable std::mutex mutex_;
  std::shared_ptr<const T> value_;
};

} // namespace qubes
