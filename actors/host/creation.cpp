// New domains: planned, given their disks, then made durable and told (spec/admin-api.md C5).
#include "actors/host/registry.hpp"

#include "actors/common/ask_storage.hpp"
#include "actors/common/guest_notification.hpp"
#include "model/change/creation.hpp"
#include "model/change/preload.hpp"
#include "model/property/property.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

namespace {

constexpr auto dispids = std::uint64_t{10000}; // spec/vm-classes.md §5
constexpr auto dispid_tries = 100;
constexpr auto patience = std::chrono::milliseconds{10};
constexpr auto dispid_rest_us = std::int64_t{7} * 24 * 3600 * 1'000'000;

/// A random uuid, version 4.
std::string uuid_of(std::uint64_t high, std::uint64_t low) {
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff,
                     high & 0xfff, 0x8000 | ((low >> 48) & 0x3fff), low & 0xffffffffffff);
}

} // namespace

/// Numbers no other domain has or is about to have.
model::outcome<model::identity> registry_state::pick_identity(const model::system& all,
                                                              const model::creation& request) {
  auto result = model::identity{};
  auto under_way = std::vector<std::int64_t>{};
  for (auto& [name, numbers] : creations_)
    under_way.push_back(numbers.qid);
  auto qid = model::free_qid(all, under_way);
  if (!qid)
    return model::fail(errc::general, "all 9999 numbers for domains are taken",
                       "remove domains that are not needed");
  result.qid = *qid;
  result.uuid = uuid_of(world_->chance(), world_->chance());
  if (request.type != model::klass::disp)
    return result;
  for (auto i = 0; i < dispid_tries; ++i) {
    result.dispid = static_cast<std::int64_t>(world_->chance() % dispids);
    if (is_free(all, request, result.dispid))
      return result;
  }
  return model::fail(errc::general, "no number for a disposable was found free",
                     "remove disposables that are not needed");
}

bool registry_state::is_free(const model::system& all, const model::creation& request,
                             std::int64_t dispid) {
  auto rested = released_.find(dispid);
  if (rested != released_.end() && world_->now_us() - rested->second < dispid_rest_us)
    return false;
  auto name = request.name.empty() ? fmt::format("disp{}", dispid) : std::string{};
  if (!name.empty()
      && (all.find(name) || all.find_set_aside(model::section::domains, name)
          || creations_.contains(name) || leaving_.contains(name)))
    return false;
  auto value = model::value{dispid};
  return std::ranges::none_of(creations_, [&](auto& x) { return x.second.dispid == dispid; })
         && std::ranges::none_of(all.domains, [&](auto& x) {
              auto theirs = x->properties.find("dispid");
              return theirs != x->properties.end() && theirs->second == value;
            });
}

bool registry_state::has_ready(const model::system& all, const std::string& base) {
  auto* x = all.find(base);
  return x && !model::preloaded(*x).empty();
}

/// One that waits ready, else a fresh one.
void registry_state::hand_out(const ask::create& x, const reply& to) {
  auto fresh = [this, x, to] {
    auto again = x;
    again.fresh = true;
    carry_out(again, to);
  };
  timed_request(self, world_, world_->disposables, world_->settings.start, atom::join_v,
                x.request.based_on, x.request.creator)
      .then(
          [this, x, fresh, to](const std::string& name) {
            auto now = world_->look();
            auto* it = now.find(name);
            if (!it)
              return fresh();
            to.ok(x.reply_with_uuid ? "uuid:" + it->uuid : name);
          },
          [fresh](const caf::error&) { fresh(); });
}

void registry_state::carry_out(const ask::create& x, const reply& to) {
  auto now = world_->look();
  auto& request = x.request;
  if (request.disposable && !x.fresh && has_ready(*now.system, request.based_on))
    return hand_out(x, to);
  if (leaving_.contains(request.name.str())) // its last owner's disks are being removed
    return postponed_.emplace_back(x, to), void();
  auto as = pick_identity(*now.system, request);
  if (!as)
    return to.refuse(as.error());
  auto plan = with_consequences(now.view(), plan_creation(now.view(), request, *as));
  if (plan.refusal)
    return to.refuse(*plan.refusal);
  auto record = created(plan);
  auto name = record->name.str();
  if (!creations_.emplace(name, *as).second)
    return to.refuse({errc::vm_already_exists, fmt::format("a domain '{}' is being created", name),
                      "choose another name"});
  auto reply_text = !request.disposable ? std::string{}
                    : x.reply_with_uuid ? "uuid:" + as->uuid
                                        : name;
  auto disks = disk_job::domain_target{.system = now.system, .domain = record};
  auto born = pending_creation{std::move(plan), disks, std::move(reply_text), to};
  ++on_their_way_;
  ask_storage(self, world_, std::move(disks), disk_job::create_disks{})
      .then([this, born] { fill_private_volume(born); },
            [this, name, to](const caf::error& why) {
              creations_.erase(name);
              arrived();
              to.refuse(from_caf(why));
            });
}

/// Its private volume may have to begin with what its template has there.
void registry_state::fill_private_volume(const pending_creation& x) {
  auto machine = world_->machine.read();
  auto* data = private_data_for({*x.disks.system, world_->board, *machine}, *x.disks.domain);
  if (!data)
    return present(x);
  auto owner = model::owner_of(*x.disks.system, data->pool, data->vid);
  ask_storage(self, world_, {x.disks.system, x.disks.domain, data->name},
              disk_job::copy_volume{.source = *data, .source_owner = owner->uuid})
      .then([this, x](disk_job::new_size) { present(x); },
            [this, x](const caf::error& why) {
              arrived();
              give_up(x.disks, from_caf(why), x.to);
            });
}

/// The disks are there. Each commit writes the whole store: while more are on their way, those who
/// are first have patience.
void registry_state::present(const pending_creation& x) {
  pending_creations_.push_back(x);
  arrived();
  if (pending_creations_.size() != 1)
    return;
  patient_since_us_ = world_->now_us();
  self->delayed_send(self, patience, atom::tick_v);
}

void registry_state::arrived() {
  if (--on_their_way_ == 0)
    commit_creations();
}

/// A timer may be one of those creations that are through already.
void registry_state::lose_patience() {
  if (world_->now_us() - patient_since_us_ >= std::chrono::microseconds{patience}.count())
    commit_creations();
}

void registry_state::commit_creations() {
  for (auto& x : std::exchange(pending_creations_, {}))
    commit_creation(x);
}

/// Now it becomes a fact.
void registry_state::commit_creation(const pending_creation& x) {
  timed_request(self, world_, world_->store, world_->settings.commit, x.plan.what, x.to.caller())
      .then(
          [this, x](const model::system_ptr& with_it) {
            caf::anon_send(world_->storage,
                           storage_job{typed_disk_job{x.disks, disk_job::forget_removal{}}});
            created_.push_back({x.disks.domain->name, x.plan.after, x.reply_text, x.to});
            if (created_.size() == 1) // the others of this commit are answered right behind it
              self->send(self, with_it);
          },
          [this, x](const caf::error& why) {
            if (from_caf(why).code == errc::timed_out) { // it may yet become a fact
              creations_.erase(x.disks.domain->name.str());
              align();
              return x.to.refuse(from_caf(why));
            }
            give_up(x.disks, from_caf(why), x.to);
          });
}

/// Tells of all that were born meanwhile, and gives them their actors in one go.
void registry_state::announce_created() {
  auto born = std::exchange(created_, {});
  for (auto& x : born) {
    creations_.erase(x.name);
    being_announced_.insert(x.name);
    self->send(world_->events, x.news);
  }
  align();
  being_announced_.clear();
  auto now = world_->look();
  for (auto& x : born) {
    tell_menus(self, world_, now.system, {}, x.news);
    auto* record = now.find(x.name);
    if (record && model::read_bool({now.view(), record}, "autostart"))
      start_at_boot(self, world_, x.name, true);
    x.to.ok(x.text);
  }
}

/// Takes the disks of a domain back that never came to be.
void registry_state::give_up(const disk_job::domain_target& disks, const model::error& reason,
                             const reply& to) {
  auto name = disks.domain->name.str();
  auto then = [this, name, reason, to] {
    creations_.erase(name);
    to.refuse(reason);
  };
  ask_storage(self, world_, disks, disk_job::remove_disks{})
      .then([then] { then(); },
            [then, name](const caf::error& why) {
              spdlog::error("{}: its disks were left behind: {}", name, from_caf(why).message());
              then();
            });
}

} // namespace qubes::actors
