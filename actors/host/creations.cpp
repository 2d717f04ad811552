#include "actors/host/creations.hpp"

#include "actors/common/ask_storage.hpp"
#include "actors/common/commit.hpp"
#include "actors/common/guest_notification.hpp"
#include "actors/common/hand_on.hpp"
#include "model/change/creation.hpp"
#include "model/change/preload.hpp"
#include "model/property/property.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ranges>

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

/// How a reply says which disposable it is.
auto handle_of(ask::create_disposable::handle x) -> std::string (*)(const model::domain&) {
  if (x == ask::create_disposable::handle::uuid)
    return [](const model::domain& made) { return "uuid:" + made.uuid; };
  return [](const model::domain& made) { return made.name.str(); };
}

} // namespace

/// Numbers no other domain has or is about to have.
model::outcome<model::identity> creations::pick_identity(const model::system& all,
                                                         const model::creation& request) {
  auto result = model::identity{};
  auto qids = std::vector<std::int64_t>{};
  for (auto& [name, x] : under_way_)
    qids.push_back(x->qid);
  auto qid = model::free_qid(all, qids);
  if (!qid)
    return model::fail(errc::general, "all 9999 numbers for domains are taken",
                       "remove domains that are not needed");
  result.qid = *qid;
  result.uuid = uuid_of(host_.world()->chance(), host_.world()->chance());
  if (request.type != model::klass::disp)
    return result;
  for (auto i = 0; i < dispid_tries; ++i) {
    result.dispid = static_cast<std::int64_t>(host_.world()->chance() % dispids);
    if (is_free(all, request, result.dispid))
      return result;
  }
  return model::fail(errc::general, "no number for a disposable was found free",
                     "remove disposables that are not needed");
}

bool creations::is_free(const model::system& all, const model::creation& request,
                        std::int64_t dispid) {
  auto rested = released_.find(dispid);
  if (rested != released_.end() && host_.world()->now_us() - rested->second < dispid_rest_us)
    return false;
  auto name = request.name.empty() ? fmt::format("disp{}", dispid) : std::string{};
  if (!name.empty()
      && (all.find(name) || all.find_set_aside(model::section::domains, name)
          || under_way_.contains(name) || host_.is_leaving(name)))
    return false;
  auto has_it = [value = model::value{dispid}](const model::domain_ptr& x) {
    auto theirs = x->properties.find("dispid");
    return theirs != x->properties.end() && theirs->second == value;
  };
  return std::ranges::none_of(under_way_ | std::views::values, has_it)
         && std::ranges::none_of(all.domains, has_it);
}

bool creations::has_ready(const model::system& all, const std::string& base) {
  auto* x = all.find(base);
  return x && !model::preloaded(*x).empty();
}

void creations::carry_out(const ask::create& x, const reply& to) {
  make(
      x.request, [](const model::domain&) { return std::string{}; }, to);
}

void creations::carry_out(const ask::create_disposable& x, const reply& to) {
  auto now = host_.align();
  if (!x.request.preloaded && has_ready(*now.system, x.request.based_on))
    hand_out(x, to);
  else
    make_new(x, to);
}

/// The promise ends with its client, and when another one is made in its place.
void creations::hand_out(const ask::create_disposable& x, const reply& to) {
  auto promise = std::make_shared<cancellation>();
  if (x.cancellation)
    x.cancellation->at_end.emplace(x.cancellation->stop.get_token(),
                                   [promise] { promise->stop.request_stop(); });
  auto another = [this, x, to, promise] {
    if (is_cancelled(x.cancellation))
      return to.refuse({errc::general, "its client has left", {}});
    promise->stop.request_stop();
    make_new(x, to);
  };
  timed_request(host_.self, host_.world(), host_.world()->disposables,
                host_.world()->settings.start,
                take_disposable{x.request.based_on, x.request.creator, promise})
      .then(
          [this, x, to, another](const std::string& name) {
            auto now = host_.world()->look();
            auto* it = now.find(name);
            if (!it)
              return another();
            if (is_cancelled(x.cancellation))
              hand_on(*host_.world(), name, order{ask::kill{}}, discarded_reply());
            to.ok(handle_of(x.reply_with)(*it));
          },
          [another](const caf::error&) { another(); });
}

void creations::make_new(const ask::create_disposable& x, const reply& to) {
  make(x.request, handle_of(x.reply_with), to);
}

/// A name is free when its last owner's actor has ended. The news of that end may come after this
/// order.
void creations::make(const model::creation& request, text_of reply_text, const reply& to) {
  auto now = host_.align();
  if (host_.is_leaving(request.name.str())) {
    postponed_.emplace_back([=, this] { make(request, reply_text, to); });
    return;
  }
  auto as = pick_identity(*now.system, request);
  if (!as)
    return to.refuse(as.error());
  auto plan = with_consequences(now.view(), plan_creation(now.view(), request, *as));
  if (plan.refusal)
    return to.refuse(*plan.refusal);
  auto record = created(plan);
  auto name = record->name.str();
  if (!under_way_.emplace(name, record).second)
    return to.refuse({errc::vm_already_exists, fmt::format("a domain '{}' is being created", name),
                      "choose another name"});
  auto disks = disk_job::domain_target{.system = now.system, .domain = record};
  auto made = pending{std::move(plan), disks, reply_text(*record), to};
  ++on_their_way_;
  ask_storage(host_.self, host_.world(), std::move(disks), disk_job::create_disks{})
      .then([this, made] { fill_private_volume(made); },
            [this, name, to](const caf::error& why) {
              under_way_.erase(name);
              arrived();
              to.refuse(from_caf(why));
            });
}

/// The domain's private volume may have to begin with what its template has there.
void creations::fill_private_volume(const pending& x) {
  auto machine = host_.world()->machine.read();
  auto* data = private_data_for({*x.disks.system, host_.world()->board, *machine}, *x.disks.domain);
  if (!data)
    return present(x);
  auto owner = model::owner_of(*x.disks.system, data->pool, data->vid);
  ask_storage(host_.self, host_.world(), {x.disks.system, x.disks.domain, data->name},
              disk_job::copy_volume{.source = *data, .source_owner = owner->uuid})
      .then([this, x](disk_job::new_size) { present(x); },
            [this, x](const caf::error& why) {
              arrived();
              give_up(x.disks, from_caf(why), x.to);
            });
}

/// The disks are there. Each commit writes the whole store: while more are on their way, the first
/// ones have patience.
void creations::present(const pending& x) {
  pending_.push_back(x);
  arrived();
  if (pending_.size() != 1)
    return;
  patient_since_us_ = host_.world()->now_us();
  host_.self->delayed_send(host_.self, patience, atom::tick_v);
}

void creations::arrived() {
  if (--on_their_way_ == 0)
    commit_all();
}

/// A timer may be one of those creations that are through already.
void creations::lose_patience() {
  if (host_.world()->now_us() - patient_since_us_ >= std::chrono::microseconds{patience}.count())
    commit_all();
}

void creations::commit_all() {
  for (auto& x : std::exchange(pending_, {}))
    commit(x);
}

/// Now the domain becomes a fact.
void creations::commit(const pending& x) {
  actors::commit(
      host_.self, host_.world(), x.plan.what, x.to,
      [this, x](const model::system_ptr& with_it) {
        caf::anon_send(host_.world()->storage,
                       storage_job{typed_disk_job{x.disks, disk_job::forget_removal{}}});
        created_.push_back({x.disks.domain->name, x.plan.after, x.reply_text, x.to});
        if (created_.size() == 1) // the others of this commit are answered right behind it
          host_.self->send(host_.self, with_it);
      },
      [this, x](const caf::error& why) { give_up(x.disks, from_caf(why), x.to); });
}

/// Tells of all domains that were made meanwhile, and gives them their actors in one go.
void creations::announce() {
  auto made = std::exchange(created_, {});
  for (auto& x : made) {
    under_way_.erase(x.name);
    being_announced_.insert(x.name);
    host_.self->send(host_.world()->events, x.news);
  }
  host_.align();
  being_announced_.clear();
  auto now = host_.world()->look();
  for (auto& x : made) {
    tell_menus(host_.self, host_.world(), now.system, {}, x.news);
    auto* record = now.find(x.name);
    if (record && model::read_bool({now.view(), record}, "autostart"))
      start_at_boot(host_.self, host_.world(), x.name, true);
    x.to.ok(x.text);
  }
}

/// Takes the disks of a domain back that never came to be.
void creations::give_up(const disk_job::domain_target& disks, const model::error& reason,
                        const reply& to) {
  auto name = disks.domain->name.str();
  auto then = [this, name, reason, to] {
    under_way_.erase(name);
    to.refuse(reason);
  };
  ask_storage(host_.self, host_.world(), disks, disk_job::remove_disks{})
      .then([then] { then(); },
            [then, name](const caf::error& why) {
              spdlog::error("{}: its disks were left behind: {}", name, from_caf(why).message());
              then();
            });
}

std::vector<std::string> creations::in_pool(std::string_view name) const {
  auto result = std::vector<std::string>{};
  for (auto& [who, x] : under_way_)
    for (auto& it : x->volumes)
      if (it.pool == name)
        result.push_back(fmt::format("{}:{}", who, it.name));
  return result;
}

bool creations::is_untold(const model::domain& x) const {
  auto creation = under_way_.find(x.name.str());
  return creation != under_way_.end() && creation->second->uuid == x.uuid;
}

void creations::note_released(const model::domain& gone) {
  auto dispid = gone.properties.find("dispid");
  if (dispid == gone.properties.end())
    return;
  if (auto* number = std::get_if<std::int64_t>(&dispid->second))
    released_[*number] = host_.world()->now_us();
}

void creations::names_are_free() {
  for (auto& make_now : std::exchange(postponed_, {}))
    make_now();
}

} // namespace qubes::actors
