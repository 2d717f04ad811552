#include "actors/domain/guest_entries.hpp"

#include "actors/common/guest_notification.hpp"
#include "actors/common/in_order.hpp"
#include "actors/domain/devices.hpp"
#include "actors/domain/firewall.hpp"
#include "actors/domain/network.hpp"
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

bool domain_entries::has_qubesdb() const {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  return me && model::abilities_of(now.view(), *me).qubesdb;
}

model::outcome<model::qubesdb_edits> domain_entries::all() const {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return tl::unexpected{domain_.stopped_meanwhile(domain_.who())};
  return model::qubesdb_entries(now.view(), *me,
                                {make_seed(*domain_.world()), domain_.world()->wall_s()});
}

/// Without the watch the domain lives on: devices that come and go are not noticed until an attempt
/// works.
void domain_entries::watch(const std::function<void()>& then) {
  auto now = domain_.look();
  auto paths = std::vector<std::string>{};
  for (auto& x : model::device_kinds)
    if (!x.listing.empty() && is_there(x, *now.machine))
      paths.emplace_back(x.listing);
  domain_.run(
      domain_.work(job::watch_qubesdb{std::move(paths)}),
      [this, then] {
        pause_ = {};
        then();
      },
      [this, then](const model::error& why) {
        if (pause_.pause <= std::chrono::seconds{1}) // the first time
          domain_.note(spdlog::level::warn, "its devices are not watched yet: {}", why.text);
        domain_.try_again(pause_);
        then();
      });
}

void domain_entries::tick() {
  if (!domain_.comes_due(pause_))
    return;
  watch([this] {
    if (!domain_.waits(pause_))
      devices_.look_at_all();
  });
}

/// A domain's QubesDB ends with it, and is begun anew where the domain goes on.
void domain_entries::watch_ended() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me || domain_.is_stopping() || domain_.waits(pause_)
      || (domain_.facts().xid < 0 && !me->is(model::admin_vm)))
    return;
  domain_.try_again(pause_);
}

/// dom0 runs as long as we do. Marks of its services do not outlive a boot of the host.
void domain_entries::wake_dom0(const model::domain& me) {
  constexpr auto prefix = std::string_view{"service."};
  for (auto& [feature, text] : me.features)
    if (feature.starts_with(prefix)
        && model::check_feature(domain_.look().view(), me, feature, text))
      mark_service(domain_.self, domain_.world(), feature.substr(prefix.size()), !text.empty());
  watch([this] { devices_.look_at_all(); });
}

/// The domain's netvm is another one: everything is told anew, with a fresh seed.
void domain_entries::retell(const std::function<void()>& then) {
  if (!has_qubesdb()) {
    network_.link().turn([this](auto& x) { x.guest_was_told(network_.netvm_in_record()); });
    return then();
  }
  auto entries = all();
  if (!entries) {
    domain_.note(spdlog::level::err, "its entries stay as they were: {}", entries.error().text);
    return then();
  }
  network_.link().turn([this](auto& x) { x.guest_was_told(network_.netvm_in_record()); });
  write_qubesdb(domain_.self, domain_.world(), domain_.who(), std::move(*entries),
                [this, then, life = domain_.life()] {
                  if (life == domain_.life())
                    domain_.tell("domain-qdb-create");
                  then();
                });
}

void domain_entries::tell_lists(const std::string& netvm, const std::function<void()>& then) {
  auto actors = domain_.world()->directory.read();
  auto* entry = actors->find(netvm);
  if (!entry || !entry->netvm)
    return then();
  timed_request(domain_.self, domain_.world(), entry->netvm, domain_.world()->settings.order,
                atom::refresh_v)
      .then([then] { then(); }, [then](const caf::error&) { then(); });
}

void domain_entries::tell_address(const std::string& netvm, const std::function<void()>& then) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return then();
  write_qubesdb(domain_.self, domain_.world(), netvm, model::mapped_address(now.view(), *me), then);
}

/// Before the domain is there: its netvm must know it when its first packet comes.
void domain_entries::announce_to_netvm(const std::function<void()>& then) {
  auto netvm = network_.serving_netvm();
  if (!netvm)
    return then();
  sequence{}.run({
      [this, netvm = *netvm](auto& next) { tell_lists(netvm, next); },
      [this, netvm = *netvm](auto& next) { tell_address(netvm, next); },
      [this, netvm = *netvm, then](auto&) {
        firewall_.with_rules_or_none([this, netvm, then](auto& rules) {
          firewall_.push(netvm, rules, [then](const auto&) { then(); });
        });
      },
  });
}

/// A netvm of release 3 reads the rules of all its clients at once.
void domain_entries::tell_legacy_netvm(const std::function<void()>& then) {
  auto now = domain_.look();
  auto netvm = network_.serving_netvm();
  auto* it = netvm ? now.find(*netvm) : nullptr;
  if (it && model::is_legacy(now.view(), *it))
    tell_lists(*netvm, then);
  else
    then();
}

} // namespace qubes::actors
