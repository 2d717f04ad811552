// How much memory a start needs (spec/lifecycle.md §2.1).
#pragma once

#include "model/view.hpp"

#include <cstdint>

namespace qubes::model {

/// Bytes to ask the memory manager for: the domain, its stub domain, and what the hypervisor keeps
/// about both.
std::uint64_t memory_to_reserve(const view& v, const domain& x);

} // namespace qubes::model
