#include "actors/domain/core.hpp"

#include "model/device/passing.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/reachable.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::power;

/// After its record is gone this actor must stay silent: its name and qid may belong to another
/// domain.
bool domain_core::is_of_record() const {
  return record(look()) != nullptr;
}

bool domain_core::has_agent() const {
  auto now = look();
  auto* me = record(now);
  return me && model::has_agent(now.view(), *me);
}

std::string domain_core::directory_of_mine() const {
  auto now = look();
  auto* me = record(now);
  auto above = me ? model::row(me->type).directory : std::string_view{};
  return above.empty() ? std::string{} : fmt::format("{}/{}", above, who_);
}

model::outcome<disk_job::volume_target> domain_core::my_volume(const std::string& volume) const {
  auto now = look();
  auto me = record(now) ? now.system->share(who_) : nullptr;
  if (!me)
    return tl::unexpected{model::no_such_domain(who_)};
  if (!me->find_volume(volume))
    return model::fail(errc::permission_denied,
                       fmt::format("'{}' has no volume '{}'", who_, volume));
  return disk_job::volume_target{.system = now.system, .domain = std::move(me), .volume = volume};
}

std::optional<disk_job::domain_target> domain_core::my_disks() const {
  auto now = look();
  auto me = record(now) ? now.system->share(who_) : nullptr;
  if (!me || me->volumes.empty())
    return std::nullopt;
  return disk_job::domain_target{.system = now.system, .domain = std::move(me)};
}

netvm_actor domain_core::supervisor() const {
  auto actors = world_->directory.read();
  auto* entry = actors->find(who_);
  return entry ? entry->netvm : netvm_actor{};
}

// -- events, log ----------------------------------------------------------------------------------

void domain_core::tell(std::string event, std::vector<std::pair<std::string, std::string>> args) {
  if (is_of_record())
    self->send(world_->events, events{model::event{who_, std::move(event), std::move(args)}});
}

/// Computed values that a new or ended life changes (spec/lifecycle.md §2 step 15, §5.4).
void domain_core::tell_runtime_reset() {
  for (auto x : {"xid", "stubdom_xid", "start_time"})
    tell(fmt::format("property-reset:{}", x), {{"name", x}});
}

/// A domain that cannot run services gets no `domain-cmd-pre-run` event.
void domain_core::announce_service() {
  auto now = look();
  if (auto* me = record(now); me && check_reachable(now.view(), *me))
    tell("domain-cmd-pre-run", {{"start_guid", "False"}});
}

void domain_core::does(std::string_view what, std::string_view step, std::int64_t since_us) {
  if (is_of_record())
    world_->status.begin(who_, std::string{what}, std::string{step}, since_us);
}

void domain_core::does_nothing() {
  if (is_of_record())
    world_->status.finish(who_);
}

void domain_core::degrade(trouble what, const std::string& why) {
  auto& reason = troubles_[what];
  if (reason == why)
    return;
  reason = why;
  note(spdlog::level::warn, "degraded: {}", why);
  publish_troubles();
}

void domain_core::recover(std::initializer_list<trouble> from) {
  auto before = troubles_.size();
  for (auto x : from)
    troubles_.erase(x);
  if (troubles_.size() != before)
    publish_troubles();
}

std::optional<std::string> domain_core::reason(trouble what) const {
  auto found = troubles_.find(what);
  return found == troubles_.end() ? std::nullopt : std::optional{found->second};
}

void domain_core::publish_troubles() {
  auto reasons = std::vector<std::string>{};
  for (auto& [what, why] : troubles_)
    reasons.push_back(why);
  facts_.degraded = !reasons.empty();
  if (is_of_record())
    world_->status.degrade(who_, fmt::format("{}", fmt::join(reasons, "; ")));
  publish_facts();
}

// -- asking --------------------------------------------------------------------------------------

job::run_service domain_core::root_service(std::string service, std::string input) {
  return {.call = {.service = std::move(service), .user = "root", .input = std::move(input)}};
}

model::error domain_core::stopped_meanwhile(const std::string& who) {
  return {errc::vm_not_running, fmt::format("'{}' stopped in the meantime", who), {}};
}

// -- the domain's life ---------------------------------------------------------------------------

/// A life has begun.
void domain_core::live_as(const model::guest& x) {
  facts_.xid = x.xid;
  facts_.at = x.at;
  facts_.stubdom_xid = x.stubdom_xid;
  facts_.stubdom_uuid = model::uuid_as_number(x.stubdom_uuid);
  facts_.started_us = x.started_us > 0 ? x.started_us : world_->wall_us();
}

/// The domain's power state stays, until it is halted.
void domain_core::lose_guest() {
  facts_ = model::live{.state = facts_.state, .degraded = facts_.degraded};
}

void domain_core::move(power to) {
  if (facts_.state != to && !can_move(facts_.state, to))
    note(spdlog::level::err, "illegal move {} -> {}", wire_name(facts_.state), wire_name(to));
  facts_.state = to;
  ++moves_;
  publish_facts();
}

void domain_core::publish_facts() {
  if (is_of_record())
    world_->board.write(qid_, facts_);
}

/// Doubles the pause from one second to a minute.
void domain_core::try_again(back_off& x) {
  using namespace std::chrono_literals;
  if (waits(x))
    return;
  x.pause = std::clamp<std::chrono::milliseconds>(x.pause * 2, 1s, 60s);
  // Not in step with others that failed at the same moment: together they would fail again.
  auto wait = x.pause + x.pause * static_cast<std::int64_t>(world_->chance() % 100) / 100;
  x.due = self->clock().now() + wait;
  self->delayed_send(self, wait, atom::tick_v, life_);
}

bool domain_core::waits(const back_off& x) const {
  return x.due && self->clock().now() < *x.due;
}

bool domain_core::comes_due(back_off& x) const {
  if (!x.due || waits(x))
    return false;
  x.due.reset();
  return true;
}

} // namespace qubes::actors
