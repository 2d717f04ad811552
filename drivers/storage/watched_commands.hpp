// The commands of one piece of work: which of them ends with it, how far it is, and which was
// killed at its deadline. Drivers run commands and need not know.
#pragma once

#include "drivers/process/command_runner.hpp"
#include "drivers/storage/pool.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

namespace qubes::drivers::storage {

class watched_commands final : public command_runner {
public:
  /// No command but a copy may take longer than `limit`.
  watched_commands(std::shared_ptr<command_runner> to, std::chrono::milliseconds limit)
      : to_(std::move(to)), limit_(limit) {}

  /// Work of the thread that began it, as long as this lives. What copies tells of itself in parts
  /// of `bytes`.
  class work {
  public:
    work(watched_commands& in, const supervision& watch, std::uint64_t bytes);
    ~work();
    work(const work&) = delete;
    work& operator=(const work&) = delete;

    /// The command that was killed at its deadline, in a sentence; "" when none was.
    const std::string& overdue() const { return overdue_; }

  private:
    friend class watched_commands;
    watched_commands& in_;
    const supervision& watch_;
    const std::uint64_t bytes_;
    std::string overdue_;
  };

  outcome<process_result> run(const command& x) override;

private:
  work* present_work();

  const std::shared_ptr<command_runner> to_;
  const std::chrono::milliseconds limit_;
  std::mutex guard_;
  std::map<std::thread::id, work*> works_;
};

} // namespace qubes::drivers::storage
