#include "drivers/io/lanes.hpp"

#include "drivers/io/contain.hpp"
#include "drivers/io/quiet_thread.hpp"

#include <sys/resource.h>

#include <condition_variable>
#include <deque>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

namespace qubes::drivers {

/// Blocking work can wait a moment; reads should not.
void yield_to_readers() {
  constexpr auto this_thread = 0;
  ::setpriority(PRIO_PROCESS, this_thread, 5);
}

/// The threads of one lane. A key has at most one job among those ready or at work; what follows
/// it waits in its strand, so a slow key holds one thread and nothing else.
class lanes::pool {
public:
  pool(unsigned width, unsigned keep, std::chrono::milliseconds patience,
       std::atomic<std::size_t>& pending)
      : width_(width == 0 ? 1 : width), keep_(keep), patience_(patience), pending_(pending) {
    // nop
  }

  ~pool() {
    auto lock = std::unique_lock{mutex_};
    closing_ = true;
    work_.notify_all();
    all_gone_.wait(lock, [this] { return alive_ == 0; });
    lock.unlock();
    if (last_gone_.joinable())
      last_gone_.join();
  }

  pool(const pool&) = delete;
  pool& operator=(const pool&) = delete;

  void start_all() {
    auto lock = std::unique_lock{mutex_};
    while (alive_ < width_)
      start_thread();
  }

  bool post(std::string key, std::function<void()> job) {
    auto lock = std::unique_lock{mutex_};
    if (!key.empty()) {
      if (auto strand = strands_.find(key); strand != strands_.end()) {
        strand->second.push_back(std::move(job));
        count_one_more();
        return true;
      }
    }
    if (ready_.size() >= idle_ && alive_ < width_ && !may_start_thread() && alive_ == 0)
      return false;
    if (!key.empty())
      strands_.try_emplace(key);
    ready_.push_back({std::move(key), std::move(job)});
    count_one_more();
    lock.unlock(); // the thread that we wake would wait for it
    work_.notify_one();
    return true;
  }

  bool finish(std::chrono::milliseconds limit) {
    auto lock = std::unique_lock{mutex_};
    return all_done_.wait_for(lock, limit, [this] { return left_ == 0; });
  }

private:
  struct task {
    std::string key;
    std::function<void()> job;
  };

  void count_one_more() {
    ++pending_;
    ++left_;
  }

  bool may_start_thread() {
    try {
      start_thread();
      return true;
    } catch (const std::system_error&) {
      return false; // threads at work come to it, if there are any
    }
  }

  void start_thread() {
    auto& self = *threads_.insert(threads_.end(), std::thread{});
    try {
      self = quiet_thread([this, &self] {
        yield_to_readers();
        run(self);
      });
    } catch (...) {
      threads_.pop_back();
      throw;
    }
    ++alive_;
    ++idle_;
  }

  void run(std::thread& self) {
    auto lock = std::unique_lock{mutex_};
    while (wait_for_work(lock)) {
      --idle_;
      auto x = std::move(ready_.front());
      ready_.pop_front();
      lock.unlock();
      contain("a job", [&] { x.job(); });
      x.job = nullptr; // what it holds may be costly to drop
      lock.lock();
      ++idle_;
      finish(x.key);
    }
    --idle_;
    leave(lock, self);
  }

  bool wait_for_work(std::unique_lock<std::mutex>& lock) {
    auto woken = [this] { return !ready_.empty() || closing_; };
    while (!work_.wait_for(lock, patience_, woken))
      if (idle_ > keep_)
        return false;
    return !ready_.empty();
  }

  /// This thread looks for work next, so no other is woken for what becomes ready here.
  void finish(const std::string& key) {
    if (!key.empty()) {
      auto strand = strands_.find(key);
      if (strand->second.empty()) {
        strands_.erase(strand);
      } else {
        ready_.push_back({key, std::move(strand->second.front())});
        strand->second.pop_front();
      }
    }
    if (--left_ == 0)
      all_done_.notify_all();
    if (--pending_ == 0)
      pending_.notify_all();
  }

  /// Each leaving thread joins the one before it, so that at most one waits to be joined.
  void leave(std::unique_lock<std::mutex>& lock, std::thread& self) {
    auto before = std::move(last_gone_);
    last_gone_.swap(self);
    threads_.remove_if([&self](const std::thread& x) { return &x == &self; });
    if (--alive_ == 0)
      all_gone_.notify_all();
    lock.unlock();
    if (before.joinable())
      before.join();
  }

  const unsigned width_;
  const unsigned keep_;
  const std::chrono::milliseconds patience_;
  std::atomic<std::size_t>& pending_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable all_gone_;
  std::condition_variable all_done_;
  std::deque<task> ready_;
  std::unordered_map<std::string, std::deque<std::function<void()>>> strands_;
  std::list<std::thread> threads_;
  std::thread last_gone_;
  std::size_t idle_ = 0; ///< threads about to look for work
  std::size_t alive_ = 0;
  std::size_t left_ = 0; ///< jobs posted and not finished
  bool closing_ = false;
};

lanes::lanes(widths x) {
  auto width = [&x](lane where) {
    switch (where) {
    case lane::host: return x.host;
    case lane::build: return x.build;
    case lane::guest: return x.guest;
    case lane::agent: return x.agent;
    case lane::rescue: return x.rescue;
    case lane::disk: return x.disk;
    case lane::storage: return x.storage;
    case lane::backup: return x.backup;
    case lane::user: return x.user;
    }
    return 1U;
  };
  for (auto i = std::size_t{0}; i < lane_count; ++i)
    pools_[i] = std::make_unique<pool>(width(static_cast<lane>(i)),
                                       static_cast<lane>(i) == lane::rescue ? x.rescue : x.keep,
                                       x.patience, pending_);
  pools_[static_cast<std::size_t>(lane::rescue)]->start_all();
}

lanes::~lanes() {
  // A job of one lane may post to another, so all lanes stay until all are done.
  for (auto n = pending_.load(); n != 0; n = pending_.load())
    pending_.wait(n);
}

bool lanes::post(lane where, std::string key, std::function<void()> job) {
  return pools_[static_cast<std::size_t>(where)]->post(std::move(key), std::move(job));
}

bool lanes::finish(lane where, std::chrono::milliseconds limit) {
  return pools_[static_cast<std::size_t>(where)]->finish(limit);
}

std::size_t lanes::pending() const {
  return pending_.load();
}

} // namespace qubes::drivers
