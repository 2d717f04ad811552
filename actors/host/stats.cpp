#include "actors/host/stats.hpp"

#include "actors/common/ask_driver.hpp"
#include "messages/admin_api.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

stats_actor::behavior_type stats(stats_actor::stateful_pointer<stats_state> self, world_ptr in,
                                 frame_sink to) {
  return self->state.make(std::move(in), std::move(to));
}

stats_actor::behavior_type stats_state::make(world_ptr in, frame_sink to) {
  world_ = std::move(in);
  to_ = std::move(to);
  return {
      [this](atom::subscribe, connection_id who, const std::string& of) { subscribe(who, of); },
      [this](atom::closed, connection_id who) { subscribers_.erase(who); },
      [this](atom::tick, std::uint64_t period) {
        if (period == period_)
          look();
      },
  };
}

void stats_state::subscribe(connection_id who, const std::string& of) {
  auto first = subscribers_.empty();
  subscribers_[who] = of;
  to_(who, api::event_frame({"", "connection-established", {}}), false);
  dismiss_idle();
  if (first && !subscribers_.empty()) {
    for (auto& [where, x] : last_)
      x.seen.clear();
    ++period_;
    look();
  }
}

void stats_state::look_later(std::chrono::milliseconds wait) {
  self->delayed_send(self, wait, atom::tick_v, ++period_);
}

/// One hypervisor that does not answer takes nothing from subscribers to the other.
void stats_state::look() {
  if (subscribers_.empty())
    return;
  auto now = world_->look();
  look_at(model::hypervisor_id::host);
  if (now.machine->containers)
    look_at(model::hypervisor_id::containers);
  auto seconds = std::clamp<std::int64_t>(model::read_int({now.view(), nullptr}, "stats_interval"),
                                          1, std::int64_t{24} * 3600);
  look_later(std::chrono::seconds{seconds});
}

void stats_state::look_at(model::hypervisor_id where) {
  if (std::exchange(last_[where].asking, true))
    return;
  ask_driver(self, world_, {.at = where}, job::sample_usage{})
      .then(
          [this, where](const std::vector<model::usage>& seen) {
            last_[where].asking = false;
            tell(where, seen);
          },
          [this, where](const caf::error& why) {
            last_[where].asking = false;
            spdlog::warn("no statistics: {}", from_caf(why).message());
          });
}

void stats_state::tell(model::hypervisor_id where, const std::vector<model::usage>& seen) {
  auto now_us = world_->now_us();
  auto& last = last_[where];
  auto elapsed_us = now_us - last.at_us;
  auto now = world_->look();
  auto by_xid = std::map<std::int32_t, const model::usage*>{};
  for (auto& x : seen)
    by_xid.emplace(x.xid, &x);
  auto since = [&](std::int32_t xid) {
    auto found = by_xid.find(xid);
    if (found == by_xid.end())
      return model::usage_since{};
    auto before = last.seen.find(xid);
    auto same_life = before != last.seen.end() && before->second.uuid == found->second->uuid;
    return model::usage_since{found->second, same_life ? &before->second : nullptr};
  };
  for (auto& x : seen) {
    auto* owner = now.view().system.find_uuid(x.uuid);
    if (!owner)
      continue;
    auto& name = owner->name.str();
    auto frame = api::event_frame(
        vm_stats(name, since(x.xid), since(now.view().facts(*owner).stubdom_xid), elapsed_us));
    for (auto& [who, of] : subscribers_)
      if (of.empty() || of == name)
        to_(who, frame, false);
  }
  last.seen.clear();
  for (auto& x : seen)
    last.seen.emplace(x.xid, x);
  last.at_us = now_us;
  dismiss_idle();
}

void stats_state::dismiss_idle() {
  auto now = world_->look();
  std::erase_if(subscribers_, [&](auto& x) {
    auto& [who, of] = x;
    if (of.empty())
      return false;
    auto* about = now.find(of);
    if (about && model::is_running(now.view(), *about))
      return false;
    to_(who, api::exception({errc::vm_not_running, fmt::format("'{}' is not running", of), {}}),
        true);
    return true;
  });
}

} // namespace qubes::actors
