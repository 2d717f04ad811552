#include "actors/domain/pause.hpp"

#include "actors/domain/domain.hpp"
#include "model/change/draft.hpp"
#include "model/property/default_rules.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/property.hpp"
#include "model/property/reachable.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace qubes::actors {

using model::errc;
using model::power;

namespace {

model::error not_running(const std::string& who, power state) {
  return {errc::vm_not_running,
          state == power::paused ? fmt::format("'{}' is paused", who)
                                 : fmt::format("'{}' is not running", who),
          {}};
}

} // namespace

void domain_pause::carry_out(const ask::pause&, const reply& to) {
  if (domain_.start.is_before_guest() || domain_.stop.is_stopping_volumes()
      || domain_.facts().state == power::halted || domain_.facts().state == power::suspended)
    return to.refuse(not_running(domain_.who(), domain_.facts().state));
  domain_.tell("domain-pre-paused");
  if (domain_.facts().state == power::paused)
    return to.ok();
  hold(to);
}

/// What a guest that goes on is.
power domain_pause::awake() const {
  return domain_.start.is_under_way() ? power::starting : power::running;
}

/// Of two orders that go out together the second finds its work done.
void domain_pause::hold(const reply& to) {
  domain_.run_for(
      to, domain_.work(job::pause_guest{}),
      [this, to] {
        moved(power::paused);
        to.ok();
      },
      [this, to](const model::error& why) {
        domain_.facts().state == power::paused ? to.ok() : to.refuse(why);
      });
}

void domain_pause::carry_out(const ask::unpause&, const reply& to) {
  auto not_paused =
      model::error{errc::vm_not_paused, fmt::format("'{}' is not paused", domain_.who()), {}};
  if (domain_.facts().state != power::paused)
    return to.refuse(not_paused);
  domain_.tell("domain-pre-unpaused");
  domain_.run_for(
      to, domain_.work(job::unpause_guest{}),
      [this, to] {
        if (domain_.facts().state == power::paused) // else something else happened to it meanwhile
          moved(awake());
        to.ok();
      },
      [this, to, not_paused](const model::error& why) {
        to.refuse(domain_.facts().state == power::paused ? why : not_paused);
      });
}

void domain_pause::carry_out(const ask::suspend&, const reply& to) {
  if (domain_.facts().state == power::paused
      && !domain_.has_agent()) { // what a pause would do is done
    domain_.tell("domain-pre-paused");
    return to.ok();
  }
  if (domain_.start.is_before_guest()
      || (domain_.facts().state != power::running && domain_.facts().state != power::starting))
    return to.refuse(not_running(domain_.who(), domain_.facts().state));
  auto sleep = [this, to] {
    domain_.run_for(
        to, domain_.work(job::suspend_guest{}),
        [this, to] {
          domain_.move(power::suspended);
          to.ok();
        },
        [this, to](const model::error& why) {
          if (why.code != errc::not_implemented)
            return to.refuse(why);
          domain_.tell("domain-pre-paused");
          hold(to);
        });
  };
  tell_guest(to, "qubes.SuspendPre", sleep);
}

void domain_pause::carry_out(const ask::resume&, const reply& to) {
  if (domain_.facts().state != power::suspended)
    return carry_out(ask::unpause{}, to);
  domain_.run_for(to, domain_.work(job::resume_guest{}), [this, to] {
    domain_.move(awake());
    tell_guest(to, "qubes.SuspendPost", [this, to] {
      domain_.tell("domain-resumed");
      domain_.devices.take_assigned_again();
      to.ok();
    });
  });
}

void domain_pause::tell_guest(const reply& to, const std::string& service,
                              const std::function<void()>& then) {
  if (domain_.start.is_under_way() || !domain_.has_agent())
    return then();
  domain_.announce_service();
  domain_.run_for(to, domain_.work(domain_.root_service(service)), then,
                  [this, then](const model::error& why) {
                    domain_.note(spdlog::level::warn, "{}", why.text);
                    then();
                  });
}

void domain_pause::carry_out(const ask::run_service& x, const reply& to) {
  domain_.run_for(to, domain_.work(domain_.root_service(x.service)), [to] { to.ok(); });
}

void domain_pause::moved(power to) {
  auto from = domain_.facts().state;
  if (from == to)
    return;
  domain_.move(to);
  if (to == power::paused)
    return domain_.tell("domain-paused");
  if (to == power::suspended) // of a sleep nothing is told but its end
    return;
  domain_.tell(from == power::suspended ? "domain-resumed" : "domain-unpaused");
  if (from == power::paused && to == power::running)
    catch_up();
}

/// The domain goes on after a pause: it is in use now, and a change of netvm that it missed is made
/// up for, as soon as that netvm serves (spec/network.md §4).
void domain_pause::catch_up() {
  auto now = domain_.look();
  auto v = now.view();
  auto* me = domain_.record(now);
  if (!me || domain_.facts().state != power::running)
    return domain_.network.sync();
  if (model::is_preload(v, *me))
    domain_.self->send(domain_.world()->disposables, atom::used_v, domain_.who());
  domain_.devices.take_assigned_again();
  domain_.menus.take_up();
  catch_up_network();
}

void domain_pause::catch_up_network() {
  if (domain_.network.is_unknown())
    return domain_.network.once_known([this] { catch_up_network(); });
  auto now = domain_.look();
  auto v = now.view();
  auto* me = domain_.record(now);
  if (!me || domain_.facts().state != power::running)
    return domain_.network.sync();
  auto* mark = me->features.find(model::deferred_netvm);
  if (!mark || (model::netvm_of(v, *me) && !domain_.network.serving_netvm()))
    return domain_.network.sync();
  auto former = mark->empty() ? model::value{} : model::value{*mark};
  auto next = model::read({v, me}, "netvm");
  domain_.self->send(domain_.world()->events,
                     events{model::property_event("property-pre-set", me, "netvm", next, former)});
  auto has_agent = model::has_agent(v, *me);
  auto told = model::property_event("property-set", me, "netvm", next, former);
  catching_up_ = true;
  domain_.network.link().turn([](auto& x) {
    x.connect_anew();
    x.guest_must_be_told();
  });
  domain_.network.sync([this, told, has_agent, life = domain_.life()] {
    catching_up_ = false;
    if (life != domain_.life())
      return;
    domain_.self->send(domain_.world()->events, events{told});
    forget_deferred([this, has_agent, life] {
      if (life == domain_.life() && has_agent && domain_.network.link().now().interface())
        await_uplink();
      domain_.devices.tell_changed();
    });
  });
}

/// Programs in the guest shall find the network when they go on.
void domain_pause::await_uplink() {
  domain_.announce_service();
  auto what = domain_.root_service("qubes.WaitForNetworkUplink");
  what.patience = std::chrono::seconds{10};
  domain_.run(
      domain_.work(std::move(what)), [] {},
      [this](const model::error& why) {
        domain_.note(spdlog::level::warn, "its network may not be up: {}", why.text);
      });
}

void domain_pause::forget_deferred(const std::function<void()>& then) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me || !me->features.find(model::deferred_netvm))
    return then();
  domain_.change([](auto& v, auto& x) { return plan_forget_deferred(v, x); },
                 domain_.heard_here([then](const auto&) { then(); }));
}

} // namespace qubes::actors
