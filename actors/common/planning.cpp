#include "actors/common/planning.hpp"

#include "model/change/creation.hpp"
#include "model/change/plan_device.hpp"
#include "model/change/plan_storage.hpp"
#include "model/change/updates.hpp"

#include <variant>

namespace qubes::actors {

using model::plan;
using model::view;

// clang-format off
plan plan_of(const view& v, const model::domain& who, const ask::set_property& x) { return plan_set_property(v, &who, x.property, x.value); }
plan plan_of(const view& v, const model::domain& who, const ask::reset_property& x) { return plan_reset_property(v, &who, x.property); }
plan plan_of(const view& v, const model::domain& who, const ask::set_feature& x) { return plan_set_feature(v, who, x.feature, x.value); }
plan plan_of(const view& v, const model::domain& who, const ask::remove_feature& x) { return plan_remove_feature(v, who, x.feature); }
plan plan_of(const view& v, const model::domain& who, const ask::add_tag& x) { return plan_add_tag(v, who, x.tag); }
plan plan_of(const view& v, const model::domain& who, const ask::remove_tag& x) { return plan_remove_tag(v, who, x.tag); }
plan plan_of(const view& v, const model::domain& who, const ask::remove&) { return plan_removal(v, who); }
plan plan_of(const view& v, const model::domain& who, const ask::set_volume_revisions& x) { return plan_set_volume_revisions(v, who, x.volume, x.revisions); }
plan plan_of(const view& v, const model::domain& who, const ask::set_volume_rw& x) { return plan_set_volume_rw(v, who, x.volume, x.writable); }
plan plan_of(const view& v, const model::domain& who, const ask::set_volume_ephemeral& x) { return plan_set_volume_ephemeral(v, who, x.volume, x.ephemeral); }
plan plan_of(const view& v, const model::domain& who, const ask::assign_device& x) { return plan_assign(v, who, x.device_class, x.device, x.assignment); }
plan plan_of(const view& v, const model::domain& who, const ask::unassign_device& x) { return plan_unassign(v, who, x.device_class, x.device); }
plan plan_of(const view& v, const model::domain& who, const ask::set_assignment& x) { return plan_set_assignment(v, who, x.device_class, x.device, x.mode); }
plan plan_of(const view& v, const model::domain& who, const ask::deny_interfaces& x) { return plan_deny_interfaces(v, who, x.interfaces); }
plan plan_of(const view& v, const model::domain& who, const ask::allow_interfaces& x) { return plan_allow_interfaces(v, who, x.interfaces); }
plan plan_of(const view& v, const model::domain& who, const ask::notify_updates& x) { return plan_notify_updates(v, who, x.available, x.checked_at); }

plan plan_of(const view& v, const ask::set_property& x) { return plan_set_property(v, nullptr, x.property, x.value); }
plan plan_of(const view& v, const ask::reset_property& x) { return plan_reset_property(v, nullptr, x.property); }
plan plan_of(const view& v, const ask::create_label& x) { return plan_create_label(v, x.label, x.color); }
plan plan_of(const view& v, const ask::remove_label& x) { return plan_remove_label(v, x.label); }
plan plan_of(const view& v, const ask::set_pool_revisions& x) { return plan_set_pool_revisions(v, x.pool, x.revisions); }
plan plan_of(const view& v, const ask::set_pool_ephemeral& x) { return plan_set_pool_ephemeral(v, x.pool, x.ephemeral); }
// clang-format on

std::optional<plan> plan_of(const view& v, const model::domain* owner, const order& x) {
  return std::visit(
      [&]<class What>(const What& what) -> std::optional<plan> {
        if constexpr (changes_domain<What>)
          if (owner)
            return plan_of(v, *owner, what);
        if constexpr (changes_host<What>)
          if (!owner)
            return plan_of(v, what);
        return std::nullopt;
      },
      x.what);
}

} // namespace qubes::actors
