// What directories hold, while others go on changing them.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <tl/expected.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace qubes::drivers {

/// No more files of a directory are read where its size is up to others.
inline constexpr auto most_files = std::size_t{10000};

/// Names of the entries of a directory (no link to one), sorted; or errno.
tl::expected<std::vector<std::string>, int> entries_of(const std::string& directory);

/// Bytes that a tree takes on its disk: a file with many links once, what goes away meanwhile or
/// may not be read not at all. Fails when the directory itself cannot be read.
model::outcome<std::uint64_t> space_taken(const std::string& directory);

/// Refused while another process holds it; held until the descriptor is closed. One that cannot be
/// opened is held by none.
model::outcome<unique_fd> hold_directory(const std::string& directory);

} // namespace qubes::drivers
