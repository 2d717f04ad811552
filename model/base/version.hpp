#pragma once

#include <string_view>

namespace qubes::model {

/// Of the programs, with the commit they were built from where that is known: "0.2.0 (1a2b3c4d5e)".
std::string_view version() noexcept;

} // namespace qubes::model
