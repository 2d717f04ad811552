// Operations of domains that daemons to come shall know of: a small file for each domain, below the
// state directory and named by its uuid, so that it survives a reboot and serves no namesake.
#pragma once

#include "drivers/io/disk.hpp"
#include "model/system/operation.hpp"

#include <functional>
#include <string>
#include <vector>

namespace qubes::drivers {

/// Replaces what is kept of a domain; with nothing to keep its file goes. The end of the daemon
/// loses nothing of it, a power cut may.
outcome<void> keep_operations(disk& state, const std::string& uuid,
                              const std::vector<model::operation>& all);

struct operations_found {
  model::operation_history history;
  std::vector<std::string> unreadable; ///< what of, and why: that was left out
};

/// Files of domains that are not `wanted`, and what a kill left half written, are removed.
operations_found find_operations(disk& state,
                                 const std::function<bool(const std::string& uuid)>& wanted);

} // namespace qubes::drivers
