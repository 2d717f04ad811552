// The rules that hold when no request is under way any more.
#pragma once

#include "storm.hpp"

namespace qubes::tools {

/// Waits until no domain is between two states, then checks what the daemon promises; each broken
/// promise becomes a violation.
void take_census(stage& on, const ledger& acknowledged, const std::map<std::string, bool>& events);

/// Records, answers and directories name the same domains, each with numbers of its own.
void count_population(stage& on);

/// Shuts everything down again.
void halt_all(stage& on);

} // namespace qubes::tools
