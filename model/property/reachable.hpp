// Whether a service can be called in a domain now: its guest runs, and its agent is connected.
#pragma once

#include "model/base/error.hpp"
#include "model/system/view.hpp"

#include <string_view>

namespace qubes::model {

/// Refuses a guest that hears nothing: halted, crashed, paused, asleep.
outcome<void> check_awake(const view& v, const domain& x);

/// The refusal for want of an agent, of a domain or of its stub domain.
error no_agent(std::string_view name);

/// Both, as far as is known.
outcome<void> check_reachable(const view& v, const domain& x);

} // namespace qubes::model
