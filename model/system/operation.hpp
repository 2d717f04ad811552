// What became of a domain's starts, stops and the like, and which of that is remembered.
#pragma once

#include "model/base/error.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

struct operation_step {
  std::string name;
  std::int64_t us = 0;

  bool operator==(const operation_step&) const = default;
};

/// Why an operation failed, as its caller was told.
struct operation_failure {
  std::string step{};      ///< that it failed in, "" for none
  std::string exception{}; ///< "" when it did not fail
  std::string cause{};
  std::string remedy{};

  bool operator==(const operation_failure&) const = default;
};

/// An operation that has ended.
struct operation {
  std::string what;         ///< start, shutdown, kill, ...
  std::int64_t ended_s = 0; ///< since the epoch
  std::int64_t us = 0;      ///< that it took
  std::vector<operation_step> steps{};
  operation_failure failure{};

  bool failed() const noexcept { return !failure.exception.empty(); }
  bool operator==(const operation&) const = default;
};

/// Sentences are cut at a length that a screen takes.
operation_failure failure_of(const error& why, std::string_view step = {});

/// Of a pause that found a domain halted and the like: nothing was begun.
bool is_only_refused(errc why) noexcept;

/// The last operations of each domain, by its uuid: a namesake begins with none. Bounded; the
/// domain whose last one is the oldest is forgotten first.
class operation_history {
public:
  static constexpr std::size_t kept_of_one = 8;
  static constexpr std::size_t kept_domains = 2000;

  /// Returns the domain that had to go for this one, "" for none.
  std::string add(const std::string& uuid, operation x);

  /// All that is known of a domain, in any order.
  void put(const std::string& uuid, std::vector<operation> all);

  void forget(const std::string& uuid) { by_uuid_.erase(uuid); }

  /// The oldest first.
  std::vector<operation> of(const std::string& uuid) const;

  struct owned {
    std::string uuid;
    operation what;
  };
  /// Operations that failed since then, the last one first.
  std::vector<owned> failures_since(std::int64_t s) const;

private:
  std::string make_room();

  std::map<std::string, std::vector<operation>> by_uuid_;
};

} // namespace qubes::model
