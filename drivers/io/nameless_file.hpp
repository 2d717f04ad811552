// Scratch space of which nothing is left, whatever happens.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <string>

namespace qubes::drivers {

/// A file in `directory` that has no name any more.
model::outcome<unique_fd> nameless_file(const std::string& directory);

} // namespace qubes::drivers
