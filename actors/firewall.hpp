// A firewall file, read.
#pragma once

#include "model/firewall.hpp"

#include <string>

namespace qubes::actors {

/// The rules that hold, whatever was found.
model::firewall_rules understand(bool found, const std::string& text, const std::string& who);

} // namespace qubes::actors
