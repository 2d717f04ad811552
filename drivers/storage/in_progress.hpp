// What others do with the data of a volume of a pool that has no files to tell it by: an import
// under way, exports being read (spec/storage.md §6, §7).
#pragma once

#include "drivers/storage/pool.hpp"

#include <mutex>
#include <set>

namespace qubes::drivers::storage {

/// By volume id, since this process began: an earlier daemon's work is over. Thread-safe.
class in_progress {
public:
  void begin_import(const std::string& vid);
  void end_import(const std::string& vid);
  bool is_importing(const std::string& vid) const;

  void begin_export(const std::string& vid);
  void end_export(const std::string& vid);
  bool is_exported(const std::string& vid) const;

  /// Refusals.
  outcome<void> not_importing(const volume& x) const;
  outcome<void> not_exported(const volume& x) const;

private:
  mutable std::mutex guard_;
  std::set<std::string> importing_;
  std::multiset<std::string> exported_;
};

} // namespace qubes::drivers::storage
