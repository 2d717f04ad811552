// The time of day, as people and as programs read it.
#pragma once

#include <string>

namespace qubes::ctl {

/// "2026-11-29 23:10:04.250", local; in UTC "2026-11-29T22:10:04.250Z".
std::string clock_text(bool utc);

} // namespace qubes::ctl
