// How long a client's order may take; each is a key of the configuration file.
#pragma once

#include <chrono>

namespace qubes {

struct order_limits {
  std::chrono::seconds order{900};        ///< whatever it takes
  std::chrono::seconds start{86400};      ///< ... but for what waits for guests, see below
  std::chrono::seconds backup{7 * 86400}; ///< ... and for a backup
};

// Every step of a start has a limit of its own: the agent the domain's qrexec_timeout, the line for
// memory and the netvm's start those of others' starts. `start` ends what was forgotten.

} // namespace qubes
