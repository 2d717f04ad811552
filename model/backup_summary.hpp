// The table of admin.backup.Info.
#pragma once

#include "model/view.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace qubes::model {

/// Volumes of a domain that a backup holds.
std::vector<std::string> volumes_in_backup(const view& v, const domain& x);

/// Files beside them, in the domain's directory.
inline constexpr std::string_view files_in_backup[]{"firewall.xml", "notes.txt"};

/// Domains that are gone by now are passed over.
std::string backup_summary(const view& v,
                           const std::vector<std::pair<std::string, std::uint64_t>>& sizes);

} // namespace qubes::model
