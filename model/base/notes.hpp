// Notes of a domain: text that a person wrote and a person reads.
#pragma once

#include "model/base/error.hpp"

#include <string>
#include <string_view>

namespace qubes::model {

/// The most bytes that notes may have (spec/lifecycle.md §9).
inline constexpr std::size_t largest_notes = 256000;

/// Replaces what must not reach a screen (control, invisible and direction-changing characters) by
/// `_`; tab and newline stay. `ProtocolError` for invalid UTF-8 or too much of it.
outcome<std::string> sanitize_notes(std::string_view text);

} // namespace qubes::model
