#include "actors/planning.hpp"

#include "model/plan_storage.hpp"
#include "model/updates.hpp"

#include <algorithm>
#include <iterator>

namespace qubes::actors {

namespace {

using model::domain;
using model::view;

struct planner_row {
  verb what;
  planner plan;
};

// clang-format off
constexpr planner_row planners[]{
  {verb::set_property,   [](const view& v, const domain* who, const order& x) { return plan_set_property(v, who, x.key, x.text); }},
  {verb::reset_property, [](const view& v, const domain* who, const order& x) { return plan_reset_property(v, who, x.key); }},
  {verb::set_feature,    [](const view& v, const domain* who, const order& x) { return plan_set_feature(v, *who, x.key, x.text); }},
  {verb::remove_feature, [](const view& v, const domain* who, const order& x) { return plan_remove_feature(v, *who, x.key); }},
  {verb::add_tag,        [](const view& v, const domain* who, const order& x) { return plan_add_tag(v, *who, x.key); }},
  {verb::remove_tag,     [](const view& v, const domain* who, const order& x) { return plan_remove_tag(v, *who, x.key); }},
  {verb::remove,         [](const view& v, const domain* who, const order&) { return plan_removal(v, *who); }},
  {verb::create_label,   [](const view& v, const domain*, const order& x) { return plan_create_label(v, x.key, x.text); }},
  {verb::remove_label,   [](const view& v, const domain*, const order& x) { return plan_remove_label(v, x.key); }},
  {verb::set_volume_revisions, [](const view& v, const domain* who, const order& x) { return plan_set_volume_revisions(v, *who, x.key, x.text); }},
  {verb::set_volume_rw,        [](const view& v, const domain* who, const order& x) { return plan_set_volume_rw(v, *who, x.key, x.text); }},
  {verb::set_volume_ephemeral, [](const view& v, const domain* who, const order& x) { return plan_set_volume_ephemeral(v, *who, x.key, x.text); }},
  {verb::assign_device,        [](const view& v, const domain* who, const order& x) { return plan_assign(v, *who, x.kind, x.key, x.text); }},
  {verb::unassign_device,      [](const view& v, const domain* who, const order& x) { return plan_unassign(v, *who, x.kind, x.key); }},
  {verb::set_assignment,       [](const view& v, const domain* who, const order& x) { return plan_set_assignment(v, *who, x.kind, x.key, x.text); }},
  {verb::deny_interfaces,      [](const view& v, const domain* who, const order& x) { return plan_deny_interfaces(v, *who, x.text); }},
  {verb::allow_interfaces,     [](const view& v, const domain* who, const order& x) { return plan_allow_interfaces(v, *who, x.text); }},
  {verb::remove_pool,          [](const view& v, const domain*, const order& x) { return plan_remove_pool(v, x.key); }},
  {verb::set_pool_revisions,   [](const view& v, const domain*, const order& x) { return plan_set_pool_revisions(v, x.key, x.text); }},
  {verb::set_pool_ephemeral,   [](const view& v, const domain*, const order& x) { return plan_set_pool_ephemeral(v, x.key, x.text); }},
  {verb::notify_updates,       [](const view& v, const domain* who, const order& x) { return plan_notify_updates(v, *who, model::parse_update_count(x.text).value_or(false), x.key); }},
};
// clang-format on

} // namespace

planner planner_of(verb what) noexcept {
  auto* found = std::ranges::find(planners, what, &planner_row::what);
  return found == std::end(planners) ? nullptr : found->plan;
}

} // namespace qubes::actors
