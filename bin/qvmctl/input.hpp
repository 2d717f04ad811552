// Standard input, where it is a terminal.
#pragma once

#include <string_view>

namespace qubes::ctl {

/// Says what is waited for where standard input is a terminal: nothing else would tell.
void announce_input(std::string_view what);

} // namespace qubes::ctl
