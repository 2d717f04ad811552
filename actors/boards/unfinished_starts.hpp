// Starts that an earlier daemon did not finish.
#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace qubes::actors {

/// Uuids of domains. Known before the actors begin; a start is undone once, also when the actor of
/// its domain begins again.
class unfinished_starts {
public:
  void adopt(std::set<std::string, std::less<>> x) {
    auto guard = std::lock_guard{mutex_};
    domains_ = std::move(x);
  }

  /// Whether this domain's start is unfinished; the domain that asks undoes it.
  bool take(std::string_view uuid) {
    auto guard = std::lock_guard{mutex_};
    auto at = domains_.find(uuid);
    if (at == domains_.end())
      return false;
    domains_.erase(at);
    return true;
  }

private:
  std::mutex mutex_;
  std::set<std::string, std::less<>> domains_;
};

} // namespace qubes::actors
