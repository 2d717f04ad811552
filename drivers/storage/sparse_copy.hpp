// Copies of images: shared blocks where the file system can, else the data without the holes.
#pragma once

#include "drivers/storage/pool.hpp"

#include <sys/types.h>

#include <optional>
#include <string>

namespace qubes::drivers::storage {

struct extent {
  off_t begin;
  off_t end;
};

/// The next data at or after `at`; nothing when there is none. A device has no holes to tell of.
outcome<std::optional<extent>> next_data(int from, off_t at, off_t size, const std::string& path);

bool is_zero(const char* data, std::size_t size);

/// Copies the data of `from` to the same places of `to`, which reads as zeros there; blocks of
/// zeros become holes. Never reads holes, never holds more than a block in memory.
outcome<void> sparse_copy(int from, int to, const std::string& path, const supervision& watch);

/// Makes the empty file `to` equal to `from` by sharing blocks; false when that cannot be.
bool share_blocks(int from, int to);

/// Makes the empty file `to` equal to `from`, sharing blocks if possible.
outcome<void> clone_or_copy(int from, int to, const std::string& path, const supervision& watch);

/// Whether files in this directory can share blocks.
bool can_share_blocks(const std::string& directory);

} // namespace qubes::drivers::storage
