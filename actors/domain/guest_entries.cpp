// What this domain and its neighbours are told about it (spec/qubesdb-entries.md, spec/network.md
// §6).
#include "actors/common/guest_notification.hpp"

#include "actors/domain/domain.hpp"
#include "model/guest/extensions/network.hpp"
#include "model/network/legacy_firewall.hpp"
#include "model/property/feature_rules.hpp"
#include "model/property/graph.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/property.hpp"

#include <spdlog/spdlog.h>

#include <cstring>

namespace qubes::actors {

namespace {

/// Instead of a pause after an attempt that failed: the next one is the first.
constexpr auto watched_before = std::chrono::milliseconds{1};

/// 64 random bytes.
std::string make_seed(const world& in) {
  auto result = std::string{};
  for (auto i = 0; i < 8; ++i) {
    auto number = in.chance();
    result.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  return result;
}

} // namespace

bool domain_state::has_qubesdb() const {
  auto now = look();
  auto* me = record(now);
  return me && model::abilities_of(now.view(), *me).qubesdb;
}

model::outcome<model::qubesdb_edits> domain_state::entries_of_mine() const {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return tl::unexpected{stopped_meanwhile(who_)};
  return model::qubesdb_entries(now.view(), *me, {make_seed(*world_), world_->wall_s()});
}

std::string domain_state::netvm_in_record() const {
  auto now = look();
  auto* me = record(now);
  auto* netvm = me ? model::netvm_of(now.view(), *me) : nullptr;
  return netvm ? netvm->name.str() : std::string{};
}

void domain_state::open_qubesdb() {
  if (!has_qubesdb()) {
    uplink_->turn([this](auto& x) { x.guest_was_told(netvm_in_record()); });
    devices_.offers_nothing();
    return next_step();
  }
  auto entries = entries_of_mine();
  if (!entries)
    return fail_start(std::move(entries.error()));
  run(
      work(job::open_qubesdb{std::move(*entries)}),
      [this, netvm = netvm_in_record()] {
        uplink_->turn([&](auto& x) { x.guest_was_told(netvm); });
        devices_.offers_nothing();
        if (start_ && !start_->failed) // else it is on its way down
          tell("domain-qdb-create");
        devices_.forget_sound();
        watch_guest([this] { next_step(); });
      },
      [this](const model::error& why) { fail_start(why); });
}

/// Without the watch it lives on: devices that come and go are not noticed until an attempt works.
void domain_state::watch_guest(const std::function<void()>& then) {
  auto now = look();
  auto paths = std::vector<std::string>{};
  for (auto& x : model::device_kinds)
    if (!x.listing.empty() && is_there(x, *now.machine))
      paths.emplace_back(x.listing);
  run(
      work(job::watch_qubesdb{std::move(paths)}),
      [this, then] {
        watch_pause_ = {};
        then();
      },
      [this, then](const model::error& why) {
        if (watch_pause_ <= watched_before)
          note(spdlog::level::warn, "its devices are not watched yet: {}", why.text);
        try_again(watch_pause_);
        then();
      });
}

void domain_state::watch_guest_again() {
  watch_guest([this] {
    if (watch_pause_.count() == 0)
      devices_.look_at_all();
  });
}

/// Its QubesDB ends with a domain, and is begun anew where it did not.
void domain_state::watch_ended() {
  auto now = look();
  auto* me = record(now);
  if (!me || stopping_ || watch_pause_.count() > 0 || (facts_.xid < 0 && !me->is(model::admin_vm)))
    return;
  watch_pause_ = watched_before;
  self->delayed_send(self, std::chrono::seconds{1}, atom::tick_v, life_);
}

/// It runs as long as we do. Marks of its services do not outlive a boot of the host.
void domain_state::wake_dom0(const model::domain& me) {
  constexpr auto prefix = std::string_view{"service."};
  for (auto& [feature, text] : me.features)
    if (feature.starts_with(prefix) && model::check_feature(look().view(), me, feature, text))
      mark_service(self, world_, feature.substr(prefix.size()), !text.empty());
  watch_guest([this] { devices_.look_at_all(); });
}

/// Its netvm is another one: everything is told anew, with a fresh seed.
void domain_state::retell_entries(const std::function<void()>& then) {
  if (!has_qubesdb()) {
    uplink_->turn([this](auto& x) { x.guest_was_told(netvm_in_record()); });
    return then();
  }
  auto entries = entries_of_mine();
  if (!entries) {
    note(spdlog::level::err, "its entries stay as they were: {}", entries.error().text);
    return then();
  }
  uplink_->turn([this](auto& x) { x.guest_was_told(netvm_in_record()); });
  write_qubesdb(self, world_, who_, std::move(*entries), [this, then, life = life_] {
    if (life == life_)
      tell("domain-qdb-create");
    then();
  });
}

void domain_state::tell_lists(const std::string& netvm, const std::function<void()>& then) {
  auto actors = world_->directory.read();
  auto* entry = actors->find(netvm);
  if (!entry || !entry->netvm)
    return then();
  timed_request(self, world_, entry->netvm, world_->settings.order, atom::reload_v)
      .then([then] { then(); }, [then](const caf::error&) { then(); });
}

void domain_state::tell_address(const std::string& netvm, const std::function<void()>& then) {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return then();
  write_qubesdb(self, world_, netvm, model::mapped_address(now.view(), *me), then);
}

/// Before it is there: its netvm must know it when its first packet comes.
void domain_state::announce_to_netvm(const std::function<void()>& then) {
  auto netvm = serving_netvm();
  if (!netvm)
    return then();
  tell_lists(*netvm, [this, netvm = *netvm, then] {
    tell_address(netvm, [this, netvm, then] {
      firewall_.with_rules_or_none(
          [this, netvm, then](auto& rules) { firewall_.push(netvm, rules, then); });
    });
  });
}

/// A netvm of release 3 reads the rules of all its clients at once.
void domain_state::tell_legacy_netvm(const std::function<void()>& then) {
  auto now = look();
  auto netvm = serving_netvm();
  auto* it = netvm ? now.find(*netvm) : nullptr;
  if (it && model::is_legacy(now.view(), *it))
    tell_lists(*netvm, then);
  else
    then();
}

} // namespace qubes::actors
