// Which orders change a record, and how: one row per verb.
#pragma once

#include "messages/types.hpp"
#include "model/plan.hpp"

namespace qubes::actors {

/// `owner` is null for the host's own record.
using planner = model::plan (*)(const model::view&, const model::domain* owner, const order&);

/// Null for an order that changes no record.
planner planner_of(verb what) noexcept;

} // namespace qubes::actors
