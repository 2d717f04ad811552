// "did you mean": which of the known words was meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qubes::ctl {

/// The same word in other letters' case, else with two neighbouring letters exchanged, else one
/// that goes on as `text` begins, else the nearest; "" when none is near.
std::string likely(std::string_view text, const std::vector<std::string>& known);

/// "did you mean 'X'?", or "".
std::string did_you_mean(std::string_view text, const std::vector<std::string>& known);

/// "did you mean 'X'?", else "one of: A, B".
std::string one_of(std::string_view text, const std::vector<std::string>& known);

} // namespace qubes::ctl
