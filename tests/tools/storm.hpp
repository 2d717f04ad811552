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
  std::atomic<bool> over = false;  ///< no client sends a new request
  std::atomic<bool> quiet = false; ///< the last answer has come

  /// Sends a request and counts its outcome. No answer is a violation, unless the daemon was killed
  /// while the request was under way.
  reply ask(const request& what);

  /// Kills the daemon with SIGKILL, and starts it again.
  void crash();
  std::size_t crashes() const { return epoch_ / 2; }

  /// The daemon is down now, or was since `epoch` was read.
  std::size_t epoch() const { return epoch_; }
  bool disturbed_since(std::size_t epoch) const { return epoch % 2 == 1 || epoch != epoch_; }

  void violation(std::string what);
  std::vector<std::string> violations() const;

  /// Notes a domain that was taken down without regard to its clients.
  void forced(const std::string& domain);
  bool was_forced(const std::string& domain) const;

  /// method -> outcome -> count
  std::map<std::string, std::map<std::string, std::size_t>> tally() const;

  /// For each method that was refused with the class that says nothing, one of the sentences.
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
/// Changes only values of its own, and returns what was acknowledged.
ledger storm(stage& on, std::size_t index, std::size_t count, std::uint64_t seed);

/// Reads properties, once a millisecond, and returns the milliseconds of each answer.
samples read_steadily(stage& on, std::uint64_t seed);

/// Follows the events until none comes after the stage is quiet; domain -> whether its last start
/// or stop was a start.
std::map<std::string, bool> follow_events(stage& on);

/// Sends garbage, half and oversized requests, and has clients that never read.
void vandalise(stage& on, std::uint64_t seed);

} // namespace qubes::tools
