// SHA-256 and base64, for the names and values of QubesDB entries.
#pragma once

#include <string>
#include <string_view>

namespace qubes::model {

/// 32 bytes (FIPS 180-4).
std::string sha256(std::string_view text);

/// RFC 4648 §4, padded.
std::string base64(std::string_view bytes);

/// RFC 4648 §5, without padding.
std::string base64_for_names(std::string_view bytes);

} // namespace qubes::model
