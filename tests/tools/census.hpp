// The rules that hold when nobody asks for anything any more.
#pragma once

#include "storm.hpp"

namespace qubes::tools {

/// Waits until no domain is on its way from one state to another, then holds the daemon against
/// its own promises; what does not hold becomes a violation.
void take_census(stage& on, const ledger& acknowledged, const std::map<std::string, bool>& events);

/// Records, answers and directories tell of the same domains, each with numbers of its own.
void count_population(stage& on);

/// Takes everything down again.
void halt_all(stage& on);

} // namespace qubes::tools
