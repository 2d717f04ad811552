// Marks of starts under way, kept as long as the host runs: a daemon that begins finds those that
// one before it did not finish.
#pragma once

#include "drivers/io/disk.hpp"

#include <functional>
#include <set>
#include <string>

namespace qubes::drivers {

/// Before the guest is built.
outcome<void> mark_start(disk& run, const std::string& uuid);

/// The guest is complete, or is gone.
outcome<void> unmark_start(disk& run, const std::string& uuid);

/// Domains, by uuid, whose starts are marked.
outcome<std::set<std::string, std::less<>>> marked_starts(disk& run);

} // namespace qubes::drivers
