// What the user is asked when several domains want a device, or one wants it with consent only
// (spec/devices.md §7, Ask).
#pragma once

#include "model/device/device.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// JSON for the device agent; `targets` are the names of the domains that want it, one at least.
std::string attach_question(const view& v, std::string_view kind, const device& x,
                            const std::vector<std::string>& targets);

/// The domain that is to have it; "" for none, and for an answer that names none of the targets.
std::string chosen_target(std::string_view answer, const std::vector<std::string>& targets);

} // namespace qubes::model
