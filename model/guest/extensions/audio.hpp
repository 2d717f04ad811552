// Stub domains that play the sound of their guests (spec/properties.tsv, audiovm).
#pragma once

#include "model/guest/extension.hpp"

#include <string>
#include <vector>

namespace qubes::model {

/// A running guest whose stub domain has to send its sound elsewhere from now on.
struct sound_turn {
  std::string guest;
  std::string player_xid; ///< "-1" for none, or one that does not run
};
std::vector<sound_turn> sound_turns(const transition& x);

} // namespace qubes::model
