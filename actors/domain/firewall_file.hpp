// A firewall file, read.
#pragma once

#include "actors/boards/status_board.hpp"
#include "model/network/firewall.hpp"

#include <map>
#include <optional>
#include <string>

namespace qubes::actors {

inline constexpr auto firewall_file_name = "firewall.xml";

/// The rules that hold, whatever was found; no file restricts nothing. What was not understood is
/// told in the log and on the status board.
model::firewall_rules understand(const std::optional<std::string>& file, const std::string& who,
                                 status_board& told);

/// Tells of all domains' files what is not understood, before any client asks for them.
void review(const std::map<std::string, std::string>& files, status_board& told);

} // namespace qubes::actors
