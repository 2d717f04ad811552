// How much memory a start needs (spec/lifecycle.md §2.1).
#pragma once

#include "model/system/view.hpp"

#include <cstdint>

namespace qubes::model {

/// MiB that the domain may grow to, 0 when its memory is fixed. A maxmem below what it starts with
/// counts as that.
std::int64_t most_memory(const view& v, const domain& x);

/// Bytes to ask the memory manager for: the domain, its stub domain, and what the hypervisor keeps
/// about both.
std::uint64_t memory_to_reserve(const view& v, const domain& x);

} // namespace qubes::model
