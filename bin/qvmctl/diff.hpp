// What tells two short texts apart.
#pragma once

#include <string>
#include <string_view>

namespace qubes::ctl {

/// The lines that differ, "-" from the first and "+" from the second, each run of them with up to
/// three common lines around it; "" when nothing differs. Takes time and memory by the product of
/// their lines.
std::string line_diff(std::string_view before, std::string_view after);

} // namespace qubes::ctl
