// model/backup: what is in a backup, and how it is written down.
//
// What a backup holds of each domain, and how its qubes.xml tells of it (spec/admin-api.md B8).
#pragma once

#include "model/system/system.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// Volumes of a domain that a backup holds: those whose data outlives a stop.
std::vector<std::string> volumes_in_backup(const domain& x);

/// Files beside them, in the domain's directory.
inline constexpr std::string_view files_in_backup[]{"firewall.xml", "notes.txt"};

/// A domain that is backed up.
struct backed_up {
  std::string domain;
  std::string path; ///< the domain's directory in the archive
  std::uint64_t bytes = 0;

  bool operator==(const backed_up&) const = default;
};

/// Where the archive has a domain's files; dom0 is the home directory of its user.
std::string path_in_backup(const domain& x, std::string_view home);

/// The system as a restore wants to read it: features say which domains are there, where, and how
/// large.
system with_contents(const system& all, const std::vector<backed_up>& those);

} // namespace qubes::model
