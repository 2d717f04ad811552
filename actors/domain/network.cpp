#include "actors/domain/network.hpp"

#include "actors/common/in_order.hpp"
#include "actors/domain/devices.hpp"
#include "actors/domain/firewall.hpp"
#include "actors/domain/guest_entries.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::power;

/// The interface goes where the record says, as soon as that netvm runs. One look at a time: what
/// happens meanwhile is looked at again before a waiter is told.
void domain_network::sync(std::function<void()> then) {
  waiters_.push_back(std::move(then));
  if (std::exchange(under_way_, true))
    again_ = true;
  else
    step();
}

void domain_network::step() {
  again_ = false;
  if (domain_.facts().xid < 0 || domain_.is_starting())
    return done();
  if (is_unknown_)
    return find();
  auto around = surroundings();
  switch (link_->now().next(around)) {
  case model::uplink_step::tell: return tell_of_netvm(*around.serving);
  case model::uplink_step::unplug: return unplug();
  case model::uplink_step::plug: return plug(*around.serving);
  case model::uplink_step::rest: break;
  }
  if (!around.paused) {
    pause_ = {};
    domain_.recover({domain_core::trouble::network});
  }
  done();
}

void domain_network::done() {
  if (again_)
    return step();
  under_way_ = false;
  for (auto& x : std::exchange(waiters_, {}))
    x();
}

model::uplink::surroundings domain_network::surroundings() const {
  auto* at = link_->now().interface();
  return {.paused = domain_.facts().state == power::paused,
          .reborn = at && is_served(*at) == false,
          .serving = serving_netvm()};
}

/// Whether the present life of its netvm serves this interface; not known of every one that was
/// found.
std::optional<bool> domain_network::is_served(const model::network_link& x) const {
  auto now = domain_.look();
  auto* netvm = now.find(x.netvm);
  if (x.backend < 0 || !netvm)
    return std::nullopt;
  return domain_.world()->board.read(netvm->qid).xid == x.backend;
}

std::string domain_network::netvm_in(const snapshot& now) const {
  auto* me = domain_.record(now);
  auto* netvm = me ? model::netvm_of(now.view(), *me) : nullptr;
  return netvm ? netvm->name.str() : std::string{};
}

/// The netvm of the record, if it can be plugged into; it calls when it comes up.
std::optional<std::string> domain_network::serving_netvm() const {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto* netvm = me ? model::netvm_of(now.view(), *me) : nullptr;
  if (!netvm || !model::serves(domain_.world()->board.read(netvm->qid).state))
    return std::nullopt;
  auto actors = domain_.world()->directory.read();
  auto* entry = actors->find(netvm->name.str());
  return entry && entry->netvm ? std::optional{netvm->name.str()} : std::nullopt;
}

void domain_network::guest_was_told(const std::string& netvm) {
  link_->turn([&](auto& x) {
    auto is_there = x.interface() && x.interface()->netvm == netvm;
    x.guest_was_told(is_there ? netvm : std::string{});
  });
}

void domain_network::follow_record() {
  link_->turn([this](auto& x) { x.wants(netvm_in_record()); });
  sync();
}

/// A life of the netvm is over. The next one may serve the interface already.
void domain_network::fell(const std::string& netvm) {
  if (is_unknown_)
    fell_meanwhile_.insert(netvm);
  auto* at = link_->now().interface();
  if (at && at->netvm == netvm && is_served(*at) == true)
    return;
  auto before = link_->now().state();
  link_->turn([&](auto& x) { x.fell(netvm); });
  auto is_stale = link_->now().state() == model::uplink_state::stale;
  if (is_stale && before != model::uplink_state::stale && domain_.facts().state == power::paused)
    domain_.change([](auto& v, auto& x) { return plan_remember_netvm(v, x); }, discarded_reply());
  sync();
}

/// A domain that was adopted, or begun again after a fault, keeps its interface, gets one that it
/// lacks as soon as its netvm runs, and starts no netvm.
void domain_network::find() {
  under_way_ = is_unknown_ = true; // nothing moves before it is known what there is
  domain_.world()->holders.doubt(domain_.who());
  link_->turn([this](auto& x) {
    x.wants(netvm_in_record());
    x.has_guest_at({});
  });
  domain_.run(
      domain_.work(job::read_devices{}),
      [this](const job::read_devices::result& has) {
        pause_ = {};
        is_unknown_ = false;
        domain_.recover({domain_core::trouble::network});
        found(has.links);
        devices_.identify(has.attachments, [] {});
      },
      [this](const model::error& why) {
        devices_.cannot_tell(why);
        failed("asked for its interfaces", why);
      },
      [this] { done(); });
}

void domain_network::once_known(std::function<void()> then) {
  is_unknown_ ? void(once_known_ = std::move(then)) : then();
}

/// The domain's own interface, among those that others may have given it: the guest has been told
/// of the netvm there. A netvm that is not there yet, by what is known so far, calls when it is.
void domain_network::found(const std::vector<model::network_link>& links) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (me && !links.empty()) {
    auto mine = std::ranges::find(links, model::read_text({now.view(), me}, "mac"),
                                  &model::network_link::mac);
    auto found = mine == links.end() ? links.front() : *mine;
    if (found.netvm.empty()) // a hypervisor without back ends
      found.netvm = netvm_in_record();
    link_->turn([&](auto& x) {
      x.plugged(found);
      x.guest_was_told(found.netvm);
    });
  }
  auto* at = link_->now().interface();
  auto fallen = std::exchange(fell_meanwhile_, {});
  if (at && at->backend < 0 && fallen.contains(at->netvm))
    fell(at->netvm);
  if (auto then = std::exchange(once_known_, nullptr))
    then();
  if (at && at->netvm == netvm_in_record() && !serving_netvm())
    done();
  else
    step();
}

/// The netvm knows address and rules before the interface is there.
void domain_network::plug(const std::string& netvm) {
  auto is_news = !link_->now().guest_knows(netvm); // false: the same netvm is running again
  auto refused = [this, netvm](const model::error& why) {
    if (why.code == model::errc::vm_not_running) // the netvm calls when it serves
      return done();
    failed(fmt::format("connected to netvm '{}'", netvm), why);
  };
  auto this_life = [this, life = domain_.life()] { return life == domain_.life(); };
  sequence{this_life, [this] { done(); }}.run({
      [this, netvm, refused](auto& next) { link_->rejoin(netvm, next, refused); },
      [this, netvm](auto& next) { entries_.tell_lists(netvm, next); },
      [this, is_news](auto& next) { is_news ? entries_.retell(next) : next(); },
      [this, netvm](auto& next) { entries_.tell_address(netvm, next); },
      [this, netvm](auto& next) {
        firewall_.with_rules_or_none([this, netvm, next](auto& all) {
          firewall_.arm_expiry(all);
          firewall_.push(netvm, all, [next](const auto&) { next(); });
        });
      },
      [this, netvm, is_news](auto&) { plug_interface(netvm, is_news); },
  });
}

/// A paused guest reads of its netvm when it goes on.
void domain_network::tell_of_netvm(const std::string& netvm) {
  entries_.tell_lists(netvm, [this, netvm, life = domain_.life()] {
    if (life != domain_.life())
      return done();
    entries_.retell([this, netvm, life] {
      if (life == domain_.life())
        domain_.self->send(
            domain_.world()->events,
            events{model::event{netvm, "net-domain-connect", {{"vm", domain_.who()}}}});
      done();
    });
  });
}

/// Tried again after a while, or when the netvm or the record moves.
void domain_network::failed(const std::string& what, const model::error& why) {
  domain_.degrade(domain_core::trouble::network,
                  fmt::format("it could not be {}: {}", what, why.text));
  domain_.try_again(pause_);
  done();
}

void domain_network::plug_interface(const std::string& netvm, bool is_news) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return done();
  if (netvm_in(now) != netvm) { // what the guest was told is of another one by now
    link_->turn([&](auto& x) {
      x.wants(netvm_in(now));
      x.guest_must_be_told();
    });
    return step();
  }
  auto machine = model::xml::gather(now.view(), *me);
  auto link = link_to(netvm, machine.mac);
  domain_.run(
      domain_.work(job::attach_device{model::xml::render_net(machine)}),
      [this, netvm, is_news, link] {
        link_->turn([&](auto& x) { x.plugged(link); });
        if (is_news)
          domain_.self->send(
              domain_.world()->events,
              events{model::event{netvm, "net-domain-connect", {{"vm", domain_.who()}}}});
        step();
      },
      [this, netvm](const model::error& why) {
        failed(fmt::format("connected to netvm '{}'", netvm), why);
      },
      [this] { done(); });
}

/// To the life that the netvm has now: it may have another one before the interface is there.
model::network_link domain_network::link_to(const std::string& netvm,
                                            const std::string& mac) const {
  auto now = domain_.look();
  auto* it = now.find(netvm);
  return {netvm, mac, it ? domain_.world()->board.read(it->qid).xid : -1};
}

void domain_network::unplug() {
  detach_interface([this, life = domain_.life()](const model::outcome<void>& how) {
    if (life != domain_.life())
      return done();
    if (how)
      return step();
    auto* at = link_->now().interface();
    failed(fmt::format("disconnected from netvm '{}'", at ? at->netvm : ""), how.error());
  });
}

/// A life that ends meanwhile ends its interface as well.
void domain_network::detach_interface(const unplugged& then) {
  domain_.run(
      domain_.work(
          job::detach_device{model::xml::render_interface_key(link_->now().interface()->mac)}),
      [this, then] {
        link_->turn([](auto& x) { x.unplugged(); });
        then({});
      },
      [then](const model::error& why) { then(tl::unexpected{why}); }, [then] { then({}); });
}
void domain_network::tick() {
  if (domain_.comes_due(pause_))
    sync();
}

} // namespace qubes::actors
