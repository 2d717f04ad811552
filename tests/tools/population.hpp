// Clients who create, copy, move and remove the same forty domains.
#pragma once

#include "storm.hpp"

namespace qubes::tools {

/// Client `index` sends random requests about the shared names until the stage is over.
void populate(stage& on, std::size_t index, std::uint64_t seed);

} // namespace qubes::tools
