// Storage pools, and volumes that are offered for cloning (spec/admin-api.md B4, B6).
#include "actors/host/registry.hpp"

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

constexpr auto most_offers = std::size_t{16384};
constexpr auto token_length = 32;

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
void registry_state::carry_out(const ask::add_pool& x, const reply& to) {
  auto now = world_->look();
  auto plan = plan_add_pool(now.view(), x.pool);
  if (plan.refusal)
    return to.refuse(*plan.refusal);
  ask_storage(self, world_, {now.system, x.pool}, disk_job::set_up_pool{})
      .then(
          [this, pool = x.pool, to](const model::callback_pools& callbacks) {
            world_->machine.update([&](model::host& x) { x.callbacks = callbacks; });
            auto kept = pool; // a check of its set-up is no property of the pool
            std::erase_if(kept.attributes, [](auto& y) { return y.first == "setup_check"; });
            change([kept](auto& v) { return plan_add_pool(v, kept); }, to);
          },
          [to](const caf::error& why) { to.refuse(from_caf(why)); });
}

/// Removals that are not ended need it as well, also those that a daemon before this one began.
void registry_state::carry_out(const ask::remove_pool& x, const reply& to) {
  auto plan = [world = world_, pool = x.pool](const model::view& v) {
    return plan_remove_pool(v, pool, world->removals.in_pool(pool));
  };
  world_->removals.when_known([this, me = self->address(), plan, to] {
    if (auto still = caf::actor_cast<registry_actor>(me))
      caf::anon_send(still, completion{[this, plan, to] { change(plan, to); }});
  });
}

void registry_state::carry_out(const ask::look_at_pool& x, const reply& to) {
  look_at(x.pool, to, describe_pool);
}

void registry_state::carry_out(const ask::tell_pool_usage& x, const reply& to) {
  look_at(x.pool, to, [](auto&, auto& found) { return details(found); });
}

void registry_state::look_at(const std::string& pool, const reply& to, const print_facts& print) {
  auto now = world_->look();
  auto* it = now.system->find_pool(pool);
  if (!it)
    return to.refuse({errc::permission_denied, fmt::format("there is no pool '{}'", pool), {}});
  auto known = world_->volumes.read(pool, world_->now_us());
  if (known)
    to.ok(print(*it, known->facts));
  if (known && !known->ages)
    return;
  auto waiting = known ? to_nobody() : to;
  ask_storage(self, world_, {now.system, *it}, disk_job::look_at_pool{})
      .then([print, pool = *it,
             waiting](const model::pool_facts& found) { waiting.ok(print(pool, found)); },
            [waiting](const caf::error& why) { waiting.refuse(from_caf(why)); });
}

/// Volumes are known from their domains; what is in a pool of kernels, only the pool knows.
void registry_state::carry_out(const ask::list_pool& x, const reply& to) {
  auto now = world_->look();
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
  ask_storage(self, world_, {now.system, *it}, disk_job::list_pool{})
      .then(
          [to](const std::vector<std::string>& vids) {
            auto text = std::string{};
            for (auto& name : vids)
              text += name + '\n';
            to.ok(std::move(text));
          },
          [to](const caf::error& why) { to.refuse(from_caf(why)); });
}

void registry_state::carry_out(const ask::offer_volume& x, const reply& to) {
  constexpr auto letters =
      std::string_view{"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"};
  auto now = world_->look();
  auto* from = now.find(x.domain);
  if (!from)
    return to.refuse(model::no_such_domain(x.domain));
  auto token = std::string{};
  for (auto i = 0; i < token_length; ++i)
    token += letters[world_->chance() % letters.size()];
  offers_[token] = {.domain = x.domain, .uuid = from->uuid, .volume = x.volume};
  offered_.push_back(token);
  while (offered_.size() > most_offers) { // nobody came for the oldest
    offers_.erase(offered_.front());
    offered_.pop_front();
  }
  to.ok(token);
}

void registry_state::carry_out(const ask::clone_volume& x, const reply& to) {
  auto offer = offers_.extract(x.token);
  if (offer.empty())
    return to.refuse({errc::token_not_found, "no volume is on offer under this token",
                      "each token is good once; ask for a new one with volume.CloneFrom"});
  auto actors = world_->directory.read();
  auto* entry = actors->find(x.domain);
  if (!entry || !entry->domain)
    return to.refuse(model::no_such_domain(x.domain));
  self->send(entry->domain,
             order{ask::import_volume{x.volume, std::move(offer.mapped()), x.cancellation}}, to);
}

} // namespace qubes::actors
