// The table of admin.backup.Info.
#pragma once

#include "model/system/view.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace qubes::model {

/// Domains that are gone by now are passed over.
std::string backup_summary(const view& v,
                           const std::vector<std::pair<std::string, std::uint64_t>>& sizes);

} // namespace qubes::model
