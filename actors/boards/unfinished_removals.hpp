// Domains whose record is gone, or about to go, and whose disks are there yet: which of them had a
// name, and which pools are needed until they are gone.
#pragma once

#include "model/system/system.hpp"

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::actors {

/// Each is a domain by its uuid, never by its name. Thread-safe; outlives the actors.
class unfinished_removals {
public:
  /// Before a domain's record goes, and when its removal did not work or was cut off.
  void note(const model::domain_ptr& who);

  /// Nothing of the domain is left, or it stays after all.
  void end(const std::string& uuid);

  /// Null for a domain whose removal was not noted.
  model::domain_ptr find(const std::string& uuid) const;

  /// Another domain that had the name of `x`; null for none.
  model::domain_ptr former(const model::domain& x) const;

  /// `DOMAIN:VOLUME` each.
  std::vector<std::string> in_pool(std::string_view name) const;

  /// Until an earlier daemon's are told, the list is not complete.
  void tell_all_known();

  /// `told` runs once all are known, at once or in the thread that tells it.
  void when_known(std::function<void()> told);

private:
  mutable std::mutex mutex_;
  std::map<std::string, model::domain_ptr> by_uuid_;
  bool known_ = false;
  std::vector<std::function<void()>> waiting_;
};

} // namespace qubes::actors
