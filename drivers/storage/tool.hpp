// Command line tools that manage volumes, LVM's and ZFS's: how they are run, what is made of their
// complaints, and how long a report of theirs is good for (spec/storage.md §6, §7).
#pragma once

#include "drivers/process/command_runner.hpp"
#include "drivers/storage/pool.hpp"

#include <atomic>
#include <memory>
#include <mutex>

namespace qubes::drivers::storage {

/// Runs the commands of one tool, as root. Thread-safe.
class tool {
public:
  /// Lines with `worry` in them are no complaint.
  explicit tool(const environment& with, std::string_view worry = {})
      : commands_(with.commands), worry_(worry) {}

  /// A command that only reports; returns its output.
  outcome<std::string> ask(std::vector<std::string> words) const;

  /// A command that changes something.
  outcome<void> change(std::vector<std::string> words);

  /// A command whose failure does not matter.
  void try_to(std::vector<std::string> words) const;

  /// The data of a file or device to the device of `volume`, by the copying program in `words`.
  outcome<void> copy(std::vector<std::string> words, const std::string& volume,
                     const std::string& path);

  /// Grows with every command that may have changed something.
  std::uint64_t changes() const { return changes_; }

private:
  outcome<process_result> run(std::vector<std::string> words, bool copies = false) const;
  std::string complaint(const std::string& errors) const;
  tl::unexpected<model::error> refused(const std::string& what, const process_result& x) const;

  std::shared_ptr<command_runner> commands_;
  std::string_view worry_;
  std::atomic<std::uint64_t> changes_{0};
};

/// A report that is asked for only after changes, and when it is old. Thread-safe.
template <class T>
class report {
public:
  /// `read` asks for a new report.
  template <class Read>
  outcome<std::shared_ptr<const T>> get(const tool& of, std::time_t now, Read read) {
    auto hold = std::lock_guard{reading_};
    auto changes = of.changes();
    auto fresh = now >= known_at_ && now - known_at_ <= age;
    if (known_ && known_changes_ == changes && fresh)
      return known_;
    return read().map([&](T x) {
      known_ = std::make_shared<const T>(std::move(x));
      known_changes_ = changes;
      known_at_ = now;
      return known_;
    });
  }

private:
  /// Seconds: the guests' writes are not told to us.
  static constexpr auto age = std::time_t{30};

  std::mutex reading_;
  std::shared_ptr<const T> known_; ///< null before the first report
  std::uint64_t known_changes_ = 0;
  std::time_t known_at_ = 0;
};

} // namespace qubes::drivers::storage
