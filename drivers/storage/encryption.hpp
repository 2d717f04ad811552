// Scratch volumes encrypted with a key that is not kept (spec/storage.md §2).
#pragma once

#include "drivers/process/command_runner.hpp"

namespace qubes::drivers::storage {

/// Puts the mapping `name` over `device`, below the directory `mapper`; an older one is closed.
model::outcome<void> open_encrypted(command_runner& with, const std::string& mapper,
                                    const std::string& device, const std::string& name);

/// Closes the mapping if it is there.
model::outcome<void> close_encrypted(command_runner& with, const std::string& mapper,
                                     const std::string& name);

} // namespace qubes::drivers::storage
