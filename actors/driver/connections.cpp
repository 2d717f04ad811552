#include "actors/driver/connections.hpp"

#include "actors/common/off_thread.hpp"
#include "actors/driver/calls.hpp"
#include "actors/driver/jobs.hpp"
#include "drivers/guest/xenstore_guest.hpp"
#include "model/property/kind_of.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using drivers::lane;
using model::errc;
using model::outcome;

namespace {

/// Learns what the host's own hypervisor tells of it.
outcome<void> describe_host(const std::shared_ptr<machinery>& with, const world_ptr& world) {
  auto machine = world->machine.copy();
  if (auto told = with->hypervisor->describe_host(machine); !told)
    return told;
  if (auto kib = drivers::read_number(with->xenstore.get(), "/local/domain/0/memory/static-max"))
    machine.dom0_memory_mib = *kib / 1024;
  world->machine.update([&](model::host& x) {
    machine.callbacks = std::move(x.callbacks); // the registry's
    machine.kernels = std::move(x.kernels);     // from the actor that watches them
    machine.timezone = std::move(x.timezone);
    x = std::move(machine);
  });
  return {};
}

/// Connects, and lists the guests that live.
outcome<std::vector<model::guest>> open_connection(const std::shared_ptr<machinery>& with,
                                                   const world_ptr& world,
                                                   model::hypervisor_id at) {
  auto& hypervisor = *with->find(at);
  if (auto open = hypervisor.connect(); !open)
    return tl::unexpected{open.error()};
  if (at == model::hypervisor_id::host)
    if (auto told = describe_host(with, world); !told)
      return tl::unexpected{told.error()};
  auto all = hypervisor.list();
  if (!all)
    return all;
  std::erase_if(*all, [](auto& x) { return x.xid == 0; }); // dom0 is no guest
  for (auto& x : *all)
    complete(*with, at, x);
  return all;
}

} // namespace

void driver_connections::listen() {
  for (auto at : model::all_hypervisors) {
    link_to(at).reason = "it has not been opened yet";
    listen_to(at);
  }
}

void driver_connections::listen_to(model::hypervisor_id x) {
  auto* hypervisor = driver_.with()->find(x);
  if (!hypervisor) {
    link_to(x).tried = true;
    link_to(x).reason = fmt::format("{} is not configured", model::key_of(x));
    return;
  }
  auto tell = [me = caf::actor_addr{driver_.self->address()}](auto... what) {
    if (auto to = caf::actor_cast<driver_actor>(me))
      caf::anon_send(to, std::move(what)...);
  };
  hypervisor->listen(
      {.on_guest =
           [tell, x](const std::string& uuid, const std::string& domain, model::guest_event what) {
             tell(news{domain, uuid, what, x});
           },
       .on_lost =
           [tell, x](const std::string& why) {
             tell(hypervisor_lost{x, why});
           },
       .on_host_devices =
           [tell, x] {
             if (x == model::hypervisor_id::host)
               tell(atom::hardware_v);
           }});
}

caf::result<void> driver_connections::connect() {
  auto to = driver_.self->make_response_promise<caf::typed_response_promise<void>>();
  waiting_.push_back(to);
  for (auto at : model::all_hypervisors)
    open(at);
  answer_waiting();
  return to;
}

void driver_connections::open(model::hypervisor_id at) {
  auto& link = link_to(at);
  if (!driver_.with()->find(at) || link.connected || std::exchange(link.connecting, true))
    return;
  off_thread(
      driver_actor{driver_.self}, driver_.with()->lanes_of(at, lane::host), lane::host, "",
      open_connection,
      [this, at](const outcome<std::vector<model::guest>>& found) { opened(at, found); },
      driver_.with(), driver_.world(), at);
}

void driver_connections::opened(model::hypervisor_id at,
                                const outcome<std::vector<model::guest>>& found) {
  auto& link = link_to(at);
  link.connecting = false;
  link.tried = true;
  if (!found) {
    lose(at, found.error().message());
  } else {
    link = {.connected = true,
            .connecting = false,
            .tried = true,
            .reason = {},
            .back_off = {},
            .active = {}};
    for (auto& x : *found)
      link.active.emplace(x.uuid, x.name);
    spdlog::info("connected to {}; {} domains are active", name_of(at), found->size());
    driver_.world()->status.set(at, {.connected = true, .type = {}, .reason = {}});
    if (at == model::hypervisor_id::host)
      learn_pci();
    tell_truth(at, *found);
  }
  answer_waiting();
}

/// To the domains that are on this hypervisor, and to those that should be.
void driver_connections::tell_truth(model::hypervisor_id at,
                                    const std::vector<model::guest>& found) {
  auto actors = driver_.world()->directory.read();
  auto now = driver_.world()->look();
  for (auto& who : actors->entries()) {
    auto i = std::ranges::find(found, who->uuid, &model::guest::uuid);
    auto* record = now.find(who->name);
    if (i == found.end() && record && model::hypervisor_of(now.view(), *record) != at)
      continue;
    auto truth = i == found.end() ? model::guest{} : *i;
    truth.at = at;
    ++untold_;
    driver_.self->request(who->domain, caf::infinite, atom::reconcile_v, truth)
        .then(
            [this, who] {
              if (agents_)
                driver_.self->send(who->domain, agent_news{agents_->contains(who->name)});
              heard();
            },
            [this](const caf::error&) { heard(); });
  }
}

/// One domain more knows the truth, or is no more.
void driver_connections::heard() {
  --untold_;
  answer_waiting();
}

void driver_connections::answer_waiting() {
  if (untold_ > 0 || !std::ranges::all_of(links_, &link::tried))
    return;
  for (auto& x : std::exchange(waiting_, {}))
    deliver(x);
}

void driver_connections::lose(model::hypervisor_id at, const std::string& why) {
  auto& link = link_to(at);
  auto fresh = link.connected || link.reason != why;
  link.connected = false;
  link.reason = why;
  if (at == model::hypervisor_id::host)
    learn_pci();
  auto told = calls_.break_off(at, why);
  if (fresh)
    spdlog::error("{} is out of reach: {}", name_of(at), told);
  driver_.world()->status.set(at, {.connected = false, .type = {}, .reason = told});
  retry_later(at);
}

void driver_connections::retry_later(model::hypervisor_id at) {
  auto& x = driver_.world()->settings;
  auto& pause = link_to(at).back_off;
  pause = pause.count() == 0 ? x.reconnect_first : std::min(pause * 2, x.reconnect_most);
  driver_.self->delayed_send(driver_.self, pause, reconnect{at});
}

void driver_connections::follow(const news& x) {
  auto& active = link_to(x.at).active;
  if (x.what == model::guest_event::stopped || x.what == model::guest_event::crashed)
    active.erase(x.uuid);
  else
    active[x.uuid] = x.domain;
}

void driver_connections::learn_pci() {
  auto number = ++pci_number_;
  driver_.world()->host_pci.update([](auto& x) { x.reset(); });
  if (!link_to(model::hypervisor_id::host).connected
      || !driver_.with()->hypervisor->can().host_news)
    return;
  off_thread(
      driver_actor{driver_.self}, *driver_.with()->lanes, lane::host, "",
      [](const std::shared_ptr<machinery>& with) { return run(*with, {}, job::list_pci{}); },
      [this, number](const outcome<std::vector<model::device>>& found) {
        if (found && number == pci_number_)
          driver_.world()->host_pci.update([&](auto& x) { x = *found; });
      },
      driver_.with());
}

std::optional<model::error> driver_connections::find_double(const domain_identity& about,
                                                            model::hypervisor_id at) const {
  for (auto other : model::all_hypervisors) {
    auto is_it = [&](auto& x) { return x.first == about.uuid || x.second == about.name; };
    auto& all = link_to(other).active;
    auto found = std::ranges::find_if(all, is_it);
    if (other != at && found != all.end())
      return model::error{errc::vm_error,
                          fmt::format("{} has an active guest of the name or uuid of '{}'",
                                      name_of(other), about.name),
                          fmt::format("'virsh destroy {}' there ends it", found->second)};
  }
  return std::nullopt;
}

std::optional<model::error> driver_connections::why_out_of_reach(model::hypervisor_id at) const {
  if (link_to(at).connected)
    return std::nullopt;
  return model::error{errc::hypervisor,
                      fmt::format("{} is out of reach: {}", name_of(at), link_to(at).reason),
                      "qvmd keeps trying to reach it"};
}

void driver_connections::agents_are(const std::set<std::string>& names) {
  agents_ = names;
}

} // namespace qubes::actors
