// What of a domain is wrong when libvirt refuses it: libvirt's words name what its drivers met, not
// the setting that led there.
#pragma once

#include "model/base/error.hpp"

#include <string_view>

namespace qubes::drivers {

/// "cannot WHAT: WORDS", with the cause before libvirt's words and the remedy where they are known.
model::error explained(model::errc code, std::string_view what, std::string_view words);

} // namespace qubes::drivers
