// A firewall file, read.
#pragma once

#include "model/firewall.hpp"

#include <optional>
#include <string>

namespace qubes::actors {

/// The rules that hold, whatever was found; no file restricts nothing.
model::firewall_rules understand(const std::optional<std::string>& file, const std::string& who);

} // namespace qubes::actors
