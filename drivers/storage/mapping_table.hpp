// What `dmsetup table` prints of a mapping in one piece: START LENGTH TARGET ARGUMENTS, in sectors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qubes::drivers::storage {

/// The same mapping with another length; nothing for any other text.
std::optional<std::string> resized_table(std::string_view table, std::uint64_t bytes);

} // namespace qubes::drivers::storage
