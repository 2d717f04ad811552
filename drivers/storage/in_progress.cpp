#include "drivers/storage/in_progress.hpp"

#include <fmt/format.h>

namespace qubes::drivers::storage {

using model::errc;
using model::fail;

void in_progress::begin_import(const std::string& vid) {
  auto hold = std::lock_guard{guard_};
  importing_.insert(vid);
}

void in_progress::end_import(const std::string& vid) {
  auto hold = std::lock_guard{guard_};
  importing_.erase(vid);
}

bool in_progress::is_importing(const std::string& vid) const {
  auto hold = std::lock_guard{guard_};
  return importing_.contains(vid);
}

void in_progress::begin_export(const std::string& vid) {
  auto hold = std::lock_guard{guard_};
  exported_.insert(vid);
}

void in_progress::end_export(const std::string& vid) {
  auto hold = std::lock_guard{guard_};
  if (auto i = exported_.find(vid); i != exported_.end())
    exported_.erase(i);
}

bool in_progress::is_exported(const std::string& vid) const {
  auto hold = std::lock_guard{guard_};
  return exported_.contains(vid);
}

outcome<void> in_progress::not_importing(const volume& x) const {
  if (is_importing(x.it.vid))
    return fail(errc::storage, fmt::format("import operation in progress on '{}'", x.it.vid),
                "wait for its end; when its writer is gone, a restart of qvmd ends it");
  return {};
}

outcome<void> in_progress::not_exported(const volume& x) const {
  if (is_exported(x.it.vid))
    return fail(errc::storage, fmt::format("volume '{}' is being read by an export", x.it.vid),
                "wait for its end");
  return {};
}

} // namespace qubes::drivers::storage
