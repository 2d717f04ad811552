// firewall.xml <-> rules (spec/firewall.md §4). Version 1 is read, version 2 read and written.
#pragma once

#include "model/firewall.hpp"

namespace qubes::model::xml {

/// Far more than any rules need.
inline constexpr std::size_t largest_firewall = std::size_t{4} << 20;

/// Refuses the file as a whole when any rule is damaged: half a firewall is none.
outcome<firewall_rules> load_firewall(std::string_view text);

std::string save_firewall(const firewall_rules& all);

} // namespace qubes::model::xml
