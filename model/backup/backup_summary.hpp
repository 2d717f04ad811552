// The table of admin.backup.Info.
#pragma once

#include "model/system/view.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace qubes::model {

/// Domains that are gone by now are passed over. `idle`: words of the profile that match nothing.
std::string backup_summary(const view& v,
                           const std::vector<std::pair<std::string, std::uint64_t>>& sizes,
                           const std::vector<std::string>& idle = {});

} // namespace qubes::model
