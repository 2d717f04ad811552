// Updates a guest found for itself or its template (spec/admin-api.md B8).
#pragma once

#include "model/change/plan.hpp"

#include <string>
#include <string_view>

namespace qubes::model {

/// A domain found updates, or that there are none; `when` is the local time, as features show it.
/// What is not kept in the domain is noted on the template it comes from, which must be halted to
/// take another's word.
plan plan_notify_updates(const view& v, const domain& owner, bool available,
                         const std::string& when);

/// A count in digits only; whether it is more than 0.
outcome<bool> parse_update_count(std::string_view text);

} // namespace qubes::model
