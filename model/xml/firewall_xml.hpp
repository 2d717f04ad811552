// firewall.xml <-> rules (spec/firewall.md §4). Version 1 is read, version 2 read and written.
#pragma once

#include "model/network/firewall.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace qubes::model::xml {

/// Far more than any rules need.
inline constexpr std::size_t largest_firewall = std::size_t{4} << 20;

/// What a file says, and what of it could not be understood.
struct firewall_file {
  firewall_rules rules;
  std::vector<std::string> findings; ///< sentences, in file order
};

/// Never less guarded than the file was meant: a comment that is none is left away, and a rule that
/// would accept something. One that would drop something drops all, so that what stands before it
/// holds, and nothing after it. A file that is none lets nothing through.
firewall_file load_firewall(std::string_view text);

std::string save_firewall(const firewall_rules& all);

} // namespace qubes::model::xml
