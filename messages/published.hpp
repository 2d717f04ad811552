// A value that one writer replaces and all threads read as a snapshot.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace qubes {

/// A snapshot that is held. A reader that looks into it keeps it: of one that is dropped at the end
/// of its expression nothing can be reached, or `for (auto& x : board.read()->domains)` would walk
/// through what another thread frees.
template <class T>
class held : public std::shared_ptr<const T> {
public:
  using std::shared_ptr<const T>::shared_ptr;
  held(std::shared_ptr<const T> x) : std::shared_ptr<const T>(std::move(x)) {} // as good as it

  const T& operator*() const& { return *this->get(); }
  const T* operator->() const& { return this->get(); }
  const T& operator*() const&& = delete;
  const T* operator->() const&& = delete;
};

/// The lock is held for the copy of one pointer only; no thread waits for work.
template <class T>
class published {
public:
  explicit published(std::shared_ptr<const T> first = std::make_shared<const T>())
      : value_(std::move(first)) {}

  held<T> read() const {
    auto guard = std::lock_guard{mutex_};
    return value_;
  }

  /// A copy of the value for its caller.
  T copy() const {
    auto now = read();
    return *now;
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
