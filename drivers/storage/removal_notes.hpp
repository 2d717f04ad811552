// What a removal has to take away, noted beside the domains' directories before its record goes: a
// daemon that is killed in the middle is followed by one that ends it.
#pragma once

#include "model/base/error.hpp"
#include "model/system/system.hpp"

#include <string>
#include <vector>

namespace qubes::drivers {

struct noted_removals {
  std::vector<model::domain> domains;
  std::vector<std::string> trouble; ///< a sentence for each note that cannot be followed
};

/// The note lasts once it is there. `state` is the directory of the domains' directories.
model::outcome<void> write_removal_note(const std::string& state, const model::domain& x);

model::outcome<void> drop_removal_note(const std::string& state, const std::string& uuid);

/// A note that is damaged, or cannot be read, is told and holds up no other.
noted_removals read_removal_notes(const std::string& state);

/// The directory's name is free at once, and nothing is left of it unless a crash comes; see below.
model::outcome<void> remove_directory(const std::string& home);

/// What crashes left of removed directories.
model::outcome<void> sweep_removed_directories(const std::string& state);

} // namespace qubes::drivers
