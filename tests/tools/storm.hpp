// Many clients at once: a seeded storm, a reader with a stop-watch, a listener, and vandals.
#pragma once

#include "children.hpp"
#include "ledger.hpp"
#include "state.hpp"
#include "wire.hpp"

#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace qubes::tools {

using dice = std::mt19937_64;

/// What all threads of a run share.
class stage {
public:
  stage(own_daemon& daemon, state_names names) : daemon(daemon), names(std::move(names)) {}

  own_daemon& daemon;
  const state_names names;
  std::atomic<bool> over = false;  ///< nobody asks any more
  std::atomic<bool> quiet = false; ///< the last answer has come

  /// Asks and counts the outcome. No answer is a violation, unless the daemon was killed while
  /// the request was under way.
  reply ask(const request& what);

  /// kill -9, and up again.
  void crash();
  std::size_t crashes() const { return epoch_ / 2; }

  /// The daemon is down now, or was since `epoch` was read.
  std::size_t epoch() const { return epoch_; }
  bool disturbed_since(std::size_t epoch) const { return epoch % 2 == 1 || epoch != epoch_; }

  void violation(std::string what);
  std::vector<std::string> violations() const;

  /// Who was taken down without regard to its clients.
  void forced(const std::string& domain);
  bool was_forced(const std::string& domain) const;

  /// method -> outcome -> count
  std::map<std::string, std::map<std::string, std::size_t>> tally() const;

  /// One sentence for each method that was refused with the class that says nothing.
  std::map<std::string, std::string> puzzling() const;

private:
  mutable std::mutex mutex_;
  std::map<std::string, std::map<std::string, std::size_t>> tally_;
  std::map<std::string, std::string> puzzling_;
  std::vector<std::string> violations_;
  std::set<std::string> forced_;
  std::atomic<std::size_t> epoch_ = 0; ///< odd while the daemon is down
};

/// Client `index` of `count`: starts, stops, pauses and changes domains until the stage is over.
/// Changes only what is its own, and returns what was acknowledged.
ledger storm(stage& on, std::size_t index, std::size_t count, std::uint64_t seed);

/// Reads properties, once a millisecond; milliseconds per answer.
samples read_steadily(stage& on, std::uint64_t seed);

/// Follows the events until nothing comes any more after the stage is quiet; domain -> whether its
/// last start or stop was a start.
std::map<std::string, bool> follow_events(stage& on);

/// Garbage, half and oversized requests, clients that never read.
void vandalise(stage& on, std::uint64_t seed);

} // namespace qubes::tools
