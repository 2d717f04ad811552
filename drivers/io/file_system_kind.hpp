// Which file system an image or a block device begins with, or which table of partitions.
#pragma once

#include "model/base/error.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace qubes::drivers {

/// Bytes from the beginning that tell.
inline constexpr std::size_t file_system_head = 128U << 10;

/// "ext4", "xfs", "btrfs", "squashfs", "erofs"; "" for what is none of them.
std::string_view file_system_of(std::string_view head) noexcept;

/// "GPT" or "MBR", the table of partitions that it has; "" for none. A file system may have what
/// looks like one.
std::string_view partitions_of(std::string_view head) noexcept;

/// Nothing but zeroes.
bool is_blank(std::string_view head) noexcept;

/// What the file begins with, at most `file_system_head` bytes.
model::outcome<std::string> read_head(const std::string& path);

} // namespace qubes::drivers
