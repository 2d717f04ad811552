// How long blocking calls may take; each is a key of the configuration file.
#pragma once

#include <chrono>

namespace qubes {

struct call_limits {
  std::chrono::seconds host_call{30};   ///< what waits for no guest; a build has no limit
  std::chrono::seconds guest_call{60};  ///< anything that waits for a guest
  std::chrono::seconds rescue_call{30}; ///< destroy
  std::chrono::seconds question{3600};  ///< the user's answer
};

} // namespace qubes
