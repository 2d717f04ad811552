#include "actors/host/pools.hpp"

#include "actors/common/ask_storage.hpp"
#include "model/change/plan_storage.hpp"
#include "model/property/graph.hpp"
#include "model/storage/pool_driver.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace qubes::actors {

using model::errc;

namespace {

std::string describe_pool(const model::pool& it, const model::pool_facts& facts) {
  auto lines = it.attributes;
  std::ranges::sort(lines);
  auto text = std::string{};
  for (auto& [key, value] : lines)
    text += fmt::format("{}={}\n", key, value);
  if (facts.size)
    text += fmt::format("size={}\n", *facts.size);
  if (facts.usage)
    text += fmt::format("usage={}\n", *facts.usage);
  if (!facts.included_in.empty())
    text += fmt::format("included_in={}\n", facts.included_in);
  return text;
}

std::string details(const model::pool_facts& facts) {
  auto text = std::string{};
  for (auto& [key, value] : facts.details)
    text += fmt::format("{}={}\n", key, value);
  return text;
}

/// Domains by name, each after the template its volumes are snapshots of.
std::vector<const model::domain*> in_order_of_loading(const model::view& v) {
  auto result = std::vector<const model::domain*>{};
  auto seen = std::set<const model::domain*>{};
  auto visit = [&](auto& self, const model::domain* x) -> void {
    if (!x || !seen.insert(x).second)
      return;
    self(self, model::template_of(v, *x));
    result.push_back(x);
  };
  for (auto& x : v.system.domains)
    visit(visit, x.get());
  return result;
}

} // namespace

/// The place is prepared first; a pool that is in qubes.xml can be used.
void host_pools::carry_out(const ask::add_pool& x, const reply& to) {
  auto now = host_.world()->look();
  auto plan = plan_add_pool(now.view(), x.pool);
  if (plan.refusal)
    return to.refuse(*plan.refusal);
  ask_storage(host_.self, host_.world(), {now.system, x.pool}, disk_job::set_up_pool{})
      .then(
          [this, pool = x.pool, to](const model::callback_pools& callbacks) {
            host_.world()->machine.update([&](model::host& x) { x.callbacks = callbacks; });
            auto kept = pool; // a check of its set-up is no property of the pool
            std::erase_if(kept.attributes, [](auto& y) { return y.first == "setup_check"; });
            host_.change([kept](auto& v) { return plan_add_pool(v, kept); }, to);
          },
          [to](const caf::error& why) { to.refuse(from_caf(why)); });
}

/// Removals that are not ended need a pool as well, also those that a daemon before this one began.
void host_pools::carry_out(const ask::remove_pool& x, const reply& to) {
  auto plan = [this, pool = x.pool](const model::view& v) {
    return plan_remove_pool(v, pool,
                            {.removed = host_.world()->removals.in_pool(pool),
                             .created = host_.being_created_in(pool)});
  };
  host_.world()->removals.when_known([this, me = host_.self->address(), plan, to] {
    if (auto still = caf::actor_cast<registry_actor>(me))
      caf::anon_send(still, completion{[this, plan, to] { host_.change(plan, to); }});
  });
}

void host_pools::carry_out(const ask::look_at_pool& x, const reply& to) {
  look_at(x.pool, to, describe_pool);
}

void host_pools::carry_out(const ask::tell_pool_usage& x, const reply& to) {
  look_at(x.pool, to, [](auto&, auto& found) { return details(found); });
}

void host_pools::look_at(const std::string& pool, const reply& to, const print_facts& print) {
  auto now = host_.world()->look();
  auto* it = now.system->find_pool(pool);
  if (!it)
    return to.refuse({errc::permission_denied, fmt::format("there is no pool '{}'", pool), {}});
  auto known = host_.world()->volumes.read(pool, host_.world()->now_us());
  if (known)
    to.ok(print(*it, known->facts));
  if (known && !known->ages)
    return;
  auto waiting = known ? discarded_reply() : to;
  ask_storage(host_.self, host_.world(), {now.system, *it}, disk_job::look_at_pool{})
      .then([print, pool = *it,
             waiting](const model::pool_facts& found) { waiting.ok(print(pool, found)); },
            [waiting](const caf::error& why) { waiting.refuse(from_caf(why)); });
}

/// Volumes are known from their domains; what is in a pool of kernels, only the pool knows.
void host_pools::carry_out(const ask::list_pool& x, const reply& to) {
  auto now = host_.world()->look();
  auto* it = now.system->find_pool(x.pool);
  if (!it)
    return to.refuse({errc::permission_denied, fmt::format("there is no pool '{}'", x.pool), {}});
  if (!model::is_fixed(*it)) {
    auto text = std::string{};
    for (auto* who : in_order_of_loading(now.view()))
      for (auto& volume : who->volumes)
        if (volume.pool == x.pool)
          text += volume.vid + '\n';
    return to.ok(std::move(text));
  }
  ask_storage(host_.self, host_.world(), {now.system, *it}, disk_job::list_pool{})
      .then(
          [to](const std::vector<std::string>& vids) {
            auto text = std::string{};
            for (auto& name : vids)
              text += name + '\n';
            to.ok(std::move(text));
          },
          [to](const caf::error& why) { to.refuse(from_caf(why)); });
}

} // namespace qubes::actors
