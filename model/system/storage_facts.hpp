// What only the storage knows of pools and volumes; gathered by drivers, told by the Admin API.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qubes::model {

/// An earlier state of a volume.
struct revision {
  std::string id;
  std::string time; ///< UTC, YYYY-MM-DDTHH:MM:SS
};

struct volume_facts {
  std::uint64_t size = 0;          ///< bytes the guest sees
  std::uint64_t usage = 0;         ///< bytes it takes
  std::string path;                ///< device or image given to the guest
  std::optional<bool> outdated;    ///< nothing when the driver cannot tell
  std::vector<revision> revisions; ///< oldest first
};

struct pool_facts {
  std::optional<std::uint64_t> size;                          ///< bytes
  std::optional<std::uint64_t> usage;                         ///< bytes
  std::vector<std::pair<std::string, std::uint64_t>> details; ///< by name
  std::string included_in;                                    ///< pool that holds it, "" for none
};

} // namespace qubes::model
