// A domain's place in the network: its interface, and the supervision of its own clients.
#include "actors/domain/domain.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::power;

/// The interface goes where the record says, as soon as that netvm runs. One look at a time: what
/// happens meanwhile is looked at again before anybody is told.
void domain_state::sync_network(std::function<void()> then) {
  network_waiters_.push_back(std::move(then));
  if (std::exchange(syncing_, true))
    sync_again_ = true;
  else
    network_step();
}

void domain_state::network_step() {
  sync_again_ = false;
  if (facts_.xid < 0 || start_)
    return network_done();
  auto around = surroundings();
  switch (uplink_->now().next(around)) {
  case model::uplink_step::tell: return tell_of_netvm(*around.serving);
  case model::uplink_step::unplug: return unplug();
  case model::uplink_step::plug: return plug(*around.serving);
  case model::uplink_step::rest: break;
  }
  if (!around.paused) {
    network_pause_ = {};
    recover({trouble::network});
  }
  network_done();
}

void domain_state::network_done() {
  if (sync_again_)
    return network_step();
  syncing_ = false;
  for (auto& x : std::exchange(network_waiters_, {}))
    x();
}

model::uplink::surroundings domain_state::surroundings() const {
  auto* at = uplink_->now().interface();
  return {.paused = facts_.state == power::paused,
          .reborn = at && is_served(*at) == false,
          .serving = serving_netvm()};
}

/// Whether the life that its netvm has now serves it; not known of every interface that was found.
std::optional<bool> domain_state::is_served(const model::network_link& x) const {
  auto now = look();
  auto* netvm = now.find(x.netvm);
  if (x.backend < 0 || !netvm)
    return std::nullopt;
  return world_->board.read(netvm->qid).xid == x.backend;
}

/// The netvm of the record, if it can be plugged into; it calls when it comes up.
std::optional<std::string> domain_state::serving_netvm() const {
  auto now = look();
  auto* me = record(now);
  auto* netvm = me ? model::netvm_of(now.view(), *me) : nullptr;
  if (!netvm || !model::serves(world_->board.read(netvm->qid).state))
    return std::nullopt;
  auto actors = world_->directory.read();
  auto* entry = actors->find(netvm->name.str());
  return entry && entry->netvm ? std::optional{netvm->name.str()} : std::nullopt;
}

/// The record may name another one, although this domain has not changed it.
void domain_state::follow_netvm() {
  uplink_->turn([this](auto& x) { x.wants(netvm_in_record()); });
  sync_network();
}

/// A life of the netvm is over. The next one may serve it already.
void domain_state::netvm_fell(const std::string& netvm) {
  auto* at = uplink_->now().interface();
  if (at && at->netvm == netvm && is_served(*at) == true)
    return;
  auto before = uplink_->now().state();
  uplink_->turn([&](auto& x) { x.fell(netvm); });
  auto is_stale = uplink_->now().state() == model::uplink_state::stale;
  if (is_stale && before != model::uplink_state::stale && facts_.state == power::paused)
    change([](auto& v, auto& x) { return plan_remember_netvm(v, x); }, to_nobody());
  sync_network();
}

/// Adopted, or begun again after a fault: it keeps the interface that it has, gets one that it
/// lacks as soon as its netvm runs, and starts nobody.
void domain_state::find_network() {
  syncing_ = true; // nothing moves before it is known what there is
  world_->holders.doubt(who_);
  uplink_->turn([this](auto& x) {
    x.wants(netvm_in_record());
    x.has_guest_at({});
  });
  run(
      work(job::read_devices{}),
      [this](const job::read_devices::result& has) {
        found_network(has.links);
        devices_.identify(has.attachments, [] {});
      },
      [this](const model::error& why) {
        devices_.cannot_tell(why);
        auto now = look();
        if (auto* me = record(now); me && model::netvm_of(now.view(), *me))
          found_network({{netvm_in_record(), model::read_text({now.view(), me}, "mac")}});
        else
          found_network({});
      },
      [this] { network_done(); });
}

/// Its own interface, among those that others may have given it: the guest has been told of the
/// netvm there. A netvm that is not there yet, by what is known so far, calls when it is.
void domain_state::found_network(const std::vector<model::network_link>& links) {
  auto now = look();
  auto* me = record(now);
  if (me && !links.empty()) {
    auto mine = std::ranges::find(links, model::read_text({now.view(), me}, "mac"),
                                  &model::network_link::mac);
    auto found = mine == links.end() ? links.front() : *mine;
    if (found.netvm.empty()) // a hypervisor without back ends
      found.netvm = netvm_in_record();
    uplink_->turn([&](auto& x) {
      x.plugged(found);
      x.guest_was_told(found.netvm);
    });
  }
  auto* at = uplink_->now().interface();
  if (at && at->netvm == netvm_in_record() && !serving_netvm())
    network_done();
  else
    network_step();
}

/// The netvm knows address and rules before the interface is there.
void domain_state::plug(const std::string& netvm) {
  auto is_news = !uplink_->now().guest_knows(netvm); // or the same one came back
  auto step = [this, life = life_](const std::function<void()>& next) {
    return [this, life, next] { life == life_ ? next() : network_done(); };
  };
  auto attach = step([this, netvm, is_news] { plug_interface(netvm, is_news); });
  auto rules = step([this, netvm, attach] {
    firewall_.with_rules_or_none([this, netvm, attach](auto& all) {
      firewall_.arm_expiry(all);
      firewall_.push(netvm, all, attach);
    });
  });
  auto address = step([this, netvm, rules] { tell_address(netvm, rules); });
  auto entries = step([this, is_news, address] {
    if (is_news)
      retell_entries(address);
    else
      address();
  });
  uplink_->rejoin(netvm, step([this, netvm, entries] { tell_lists(netvm, entries); }),
                  [this, netvm](const model::error& why) {
                    if (why.code == model::errc::vm_not_running) // it calls when it serves
                      return network_done();
                    network_failed(fmt::format("connected to netvm '{}'", netvm), why);
                  });
}

/// A paused guest reads it when it goes on.
void domain_state::tell_of_netvm(const std::string& netvm) {
  tell_lists(netvm, [this, netvm, life = life_] {
    if (life != life_)
      return network_done();
    retell_entries([this, netvm, life] {
      if (life == life_)
        self->send(world_->events,
                   events{model::event{netvm, "net-domain-connect", {{"vm", who_}}}});
      network_done();
    });
  });
}

/// Tried again after a while, or when the netvm or the record moves.
void domain_state::network_failed(const std::string& what, const model::error& why) {
  degrade(trouble::network, fmt::format("it could not be {}: {}", what, why.text));
  try_again(network_pause_);
  network_done();
}

void domain_state::plug_interface(const std::string& netvm, bool is_news) {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return network_done();
  auto machine = model::xml::gather(now.view(), *me);
  auto link = link_to(netvm, machine.mac);
  run(
      work(job::attach_device{model::xml::render_net(machine)}),
      [this, netvm, is_news, link] {
        uplink_->turn([&](auto& x) { x.plugged(link); });
        if (is_news)
          self->send(world_->events,
                     events{model::event{netvm, "net-domain-connect", {{"vm", who_}}}});
        network_step();
      },
      [this, netvm](const model::error& why) {
        network_failed(fmt::format("connected to netvm '{}'", netvm), why);
      },
      [this] { network_done(); });
}

/// To the life that the netvm has now: it may have another one before the interface is there.
model::network_link domain_state::link_to(const std::string& netvm, const std::string& mac) const {
  auto now = look();
  auto* it = now.find(netvm);
  return {netvm, mac, it ? world_->board.read(it->qid).xid : -1};
}

void domain_state::unplug() {
  detach_interface([this, life = life_](const model::outcome<void>& done) {
    if (life != life_)
      return network_done();
    if (done)
      return network_step();
    auto* at = uplink_->now().interface();
    network_failed(fmt::format("disconnected from netvm '{}'", at ? at->netvm : ""), done.error());
  });
}

/// A life that ends meanwhile ends its interface as well.
void domain_state::detach_interface(const unplugged& then) {
  run(
      work(job::detach_device{model::xml::render_interface_key(uplink_->now().interface()->mac)}),
      [this, then] {
        uplink_->turn([](auto& x) { x.unplugged(); });
        then({});
      },
      [then](const model::error& why) { then(tl::unexpected{why}); }, [then] { then({}); });
}

/// A domain that provides network has a supervisor for its clients; the registry keeps them.
void domain_state::supervise_clients(const std::function<void()>& then) {
  auto now = look();
  auto* me = record(now);
  auto provides = me && model::provides_network(now.view(), *me);
  if (provides == static_cast<bool>(supervisor()))
    return then();
  timed_request(self, world_, world_->registry, world_->settings.host_call, atom::open_v, who_)
      .then(
          [this, then] {
            if (auto clients = supervisor(); clients && facts_.state == power::running)
              self->send(clients, atom::up_v, netvm_life::known);
            then();
          },
          [this, then](const caf::error& why) {
            note(spdlog::level::err, "no supervisor for its clients: {}", from_caf(why).text);
            then();
          });
}

netvm_actor domain_state::supervisor() const {
  auto actors = world_->directory.read();
  auto* entry = actors->find(who_);
  return entry ? entry->netvm : netvm_actor{};
}

} // namespace qubes::actors
