// Which orders change a record, and how: a function for each.
#pragma once

#include "messages/orders.hpp"
#include "model/change/plan.hpp"

#include <concepts>
#include <optional>

namespace qubes::actors {

// -- a domain's record ---------------------------------------------------------------------------

template <class What>
using domain_planner = model::plan(const model::view&, const model::domain& owner, const What&);

domain_planner<ask::set_property> plan_of;
domain_planner<ask::reset_property> plan_of;
domain_planner<ask::set_feature> plan_of;
domain_planner<ask::remove_feature> plan_of;
domain_planner<ask::add_tag> plan_of;
domain_planner<ask::remove_tag> plan_of;
domain_planner<ask::remove> plan_of;
domain_planner<ask::set_volume_revisions> plan_of;
domain_planner<ask::set_volume_rw> plan_of;
domain_planner<ask::set_volume_ephemeral> plan_of;
domain_planner<ask::assign_device> plan_of;
domain_planner<ask::unassign_device> plan_of;
domain_planner<ask::set_assignment> plan_of;
domain_planner<ask::deny_interfaces> plan_of;
domain_planner<ask::allow_interfaces> plan_of;
domain_planner<ask::notify_updates> plan_of;

// -- the host's own ------------------------------------------------------------------------------

template <class What>
using host_planner = model::plan(const model::view&, const What&);

host_planner<ask::set_property> plan_of;
host_planner<ask::reset_property> plan_of;
host_planner<ask::create_label> plan_of;
host_planner<ask::remove_label> plan_of;
host_planner<ask::set_pool_revisions> plan_of;
host_planner<ask::set_pool_ephemeral> plan_of;

// -- plans of domains and of the host ------------------------------------------------------------

template <class What>
concept changes_domain = requires(const model::view& v, const model::domain& owner, const What& x) {
  { plan_of(v, owner, x) } -> std::same_as<model::plan>;
};

template <class What>
concept changes_host = requires(const model::view& v, const What& x) {
  { plan_of(v, x) } -> std::same_as<model::plan>;
};

/// Nothing for an order that changes no record. `owner` is null for the host's own.
std::optional<model::plan> plan_of(const model::view& v, const model::domain* owner,
                                   const order& x);

} // namespace qubes::actors
