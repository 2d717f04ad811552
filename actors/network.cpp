// A domain's place in the network: its interface, and the supervision of its own clients.
#include "actors/domain.hpp"
#include "model/graph.hpp"
#include "model/property.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace qubes::actors {

using model::power;

/// The interface goes where the record says, as soon as that netvm runs. A paused guest is left
/// alone: its interface follows when it goes on (spec/network.md §4).
void domain_state::sync_network(std::function<void(model::outcome<void>)> then) {
  if (facts_.xid < 0 || start_ || facts_.state == power::paused)
    return then({});
  auto now = look();
  auto* me = record(now);
  auto* netvm = me ? model::read_domain({now.view(), me}, "netvm") : nullptr;
  auto wanted = netvm ? std::optional{netvm->name.str()} : std::nullopt;
  if (wanted == plugged_into_)
    return then({});
  auto connect = [this, wanted, then](model::outcome<void> freed) {
    if (!freed || !wanted)
      return then(freed);
    plug(*wanted, then);
  };
  if (plugged_into_)
    unplug(connect);
  else
    connect({});
}

void domain_state::plug(const std::string& netvm, std::function<void(model::outcome<void>)> then) {
  auto now = look();
  auto* me = record(now);
  auto actors = world_->directory.read();
  auto* entry = actors->find(netvm);
  auto* provider = now.find(netvm);
  if (!me || !entry || !entry->netvm || !provider || !model::is_running(now.view(), *provider))
    return then({}); // it plugs us in when it comes up
  member_of_ = netvm;
  auto join = self->request(entry->netvm, world_->settings.order, atom::join_v, who_,
                            domain_actor{self});
  auto failed = [this, then](model::error why) {
    why.text = fmt::format("the change is saved, but '{}' could not be connected: {}", who_, why.text);
    degrade(why.text);
    then(tl::unexpected{std::move(why)});
  };
  join.then(
    [this, netvm, then, failed, life = life_] {
      auto present = look();
      auto* who = record(present);
      if (life != life_ || !who)
        return then({});
      run(
        work(task::attach, model::xml::render_net(model::xml::gather(present.view(), *who))),
        [this, netvm, then](const report&) {
          plugged_into_ = netvm;
          tell("domain-qdb-create");
          self->send(world_->events,
                     events{model::event{netvm, "net-domain-connect", {{"vm", who_}}}});
          then({});
        },
        failed);
    },
    [failed](const caf::error& why) { failed(from_caf(why)); });
}

void domain_state::unplug(std::function<void(model::outcome<void>)> then) {
  if (!plugged_into_ || facts_.xid < 0 || start_)
    return then({});
  auto former = *std::exchange(plugged_into_, std::nullopt);
  auto now = look();
  auto* me = record(now);
  if (!me)
    return then({});
  auto* wanted = model::read_domain({now.view(), me}, "netvm");
  if (member_of_ == former && (!wanted || wanted->name.str() != former))
    leave_netvm();
  run(
    work(task::detach, model::xml::render_net(model::xml::gather(now.view(), *me))),
    [then](const report&) { then({}); },
    [this, then](const model::error& why) { // its back end may be gone already
      note(spdlog::level::warn, "detaching the network: {}", why.text);
      then({});
    });
}

void domain_state::leave_netvm() {
  leave(std::exchange(member_of_, {}));
}

/// "" is no netvm.
void domain_state::leave(const std::string& netvm) {
  auto actors = world_->directory.read();
  if (auto* entry = actors->find(netvm); entry && entry->netvm)
    self->send(entry->netvm, atom::leave_v, who_);
}

/// A domain that provides network has a supervisor for its clients; the registry keeps them.
void domain_state::supervise_clients(std::function<void()> then) {
  auto now = look();
  auto* me = record(now);
  auto provides = me && model::provides_network(now.view(), *me);
  if (provides == static_cast<bool>(supervisor()))
    return then();
  self->request(world_->registry, world_->settings.host_call, atom::open_v, who_)
    .then(
      [this, then] {
        if (auto clients = supervisor(); clients && facts_.state == power::running)
          self->send(clients, atom::up_v);
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
