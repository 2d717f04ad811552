// A qrexec service that is run in a domain.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace qubes::model {

/// Qrexec's word for the user that a domain's own programs run as.
inline constexpr auto default_user = "DEFAULT";

/// Where qrexec looks for rules.
enum class policy_folder : std::uint8_t {
  services, ///< of old: a file per service, `paths.legacy_policy`
  run_time, ///< forgotten with the host's boot, `paths.qubes_run`/policy.d
};

/// A rule that lets a domain use a service of another.
struct service_rule {
  policy_folder where;
  std::string file;
  std::string line;

  bool operator==(const service_rule&) const = default;
};

/// What the caller of a service decides.
struct service_call {
  std::string service;                 ///< with its argument: "qubes.SetAudioVM+5"
  std::string user;                    ///< the service runs as, in the domain
  std::string input{};                 ///< what it reads; at most what a pipe holds
  std::optional<service_rule> needs{}; ///< holds while it runs
};

} // namespace qubes::model
