// Data that is mostly zeros, on its way into a file that is zeros yet.
#pragma once

#include <cstdint>
#include <string_view>

namespace qubes::ctl {

/// Writes what is not zeros; false, and errno, where that failed.
bool write_sparse(int file, std::uint64_t at, std::string_view bytes);

} // namespace qubes::ctl
