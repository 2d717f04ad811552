// Columns of a listing that tell of volumes.
#pragma once

#include "bin/qvmctl/requests.hpp"

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::ctl {

/// What the daemon tells of a domain's volumes, by their names.
using volume_facts = std::map<std::string, pairs, std::less<>>;

struct disk_column {
  std::string_view key;
  bool bytes; ///< else percent
  nlohmann::json (*of)(const volume_facts&);
};

std::span<const disk_column> disk_columns() noexcept;
const disk_column* find_disk_column(std::string_view key);

/// By domain, all asked for at once; of volumes that there are not nothing is told.
expected<std::map<const entry*, volume_facts>> fetch_volumes(session& s,
                                                             const std::vector<const entry*>& of);

} // namespace qubes::ctl
