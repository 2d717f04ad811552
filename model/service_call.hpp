// A qrexec service that is run in a domain.
#pragma once

#include <string>

namespace qubes::model {

/// Qrexec's word for the user whom a domain's own programs run as.
inline constexpr auto default_user = "DEFAULT";

/// What its caller decides.
struct service_call {
  std::string service; ///< with its argument: "qubes.SetAudioVM+5"
  std::string user;    ///< it runs as, in the domain
  std::string input{}; ///< what it reads; at most what a pipe holds
};

} // namespace qubes::model
