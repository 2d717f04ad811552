// Pausing, sleeping, and what the hypervisor tells (spec/lifecycle.md §4, §5).
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

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::guest_event;
using model::power;

namespace {

model::error not_running(const std::string& who, power state) {
  return {errc::vm_not_running,
          state == power::paused ? fmt::format("'{}' is paused", who)
                                 : fmt::format("'{}' is not running", who),
          {}};
}

} // namespace

void domain_state::carry_out(const ask::pause&, const reply& to) {
  if (before_guest() || stopping_ || facts_.state == power::halted
      || facts_.state == power::suspended)
    return to.refuse(not_running(who_, facts_.state));
  tell("domain-pre-paused");
  if (facts_.state == power::paused)
    return to.ok();
  hold(to);
}

/// Of two orders that go out together the second finds its work done.
void domain_state::hold(const reply& to) {
  run_for(
      to, work(job::pause_guest{}),
      [this, to] {
        if (facts_.state != power::paused) { // the hypervisor's news may have been faster
          move(power::paused);
          tell("domain-paused");
        }
        to.ok();
      },
      [this, to](const model::error& why) {
        facts_.state == power::paused ? to.ok() : to.refuse(why);
      });
}

void domain_state::carry_out(const ask::unpause&, const reply& to) {
  auto not_paused = model::error{errc::vm_not_paused, fmt::format("'{}' is not paused", who_), {}};
  if (facts_.state != power::paused)
    return to.refuse(not_paused);
  tell("domain-pre-unpaused");
  run_for(
      to, work(job::unpause_guest{}),
      [this, to] {
        if (facts_.state == power::paused) {
          move(awake());
          tell("domain-unpaused");
        }
        if (!start_)
          catch_up();
        to.ok();
      },
      [this, to, not_paused](const model::error& why) {
        to.refuse(facts_.state == power::paused ? why : not_paused);
      });
}

void domain_state::carry_out(const ask::suspend&, const reply& to) {
  if (facts_.state == power::paused && !has_agent()) { // what a pause would do is done
    tell("domain-pre-paused");
    return to.ok();
  }
  if (before_guest() || (facts_.state != power::running && facts_.state != power::starting))
    return to.refuse(not_running(who_, facts_.state));
  auto sleep = [this, to] {
    run_for(
        to, work(job::suspend_guest{}),
        [this, to] {
          move(power::suspended);
          to.ok();
        },
        [this, to](const model::error& why) {
          if (why.code != errc::not_implemented)
            return to.refuse(why);
          tell("domain-pre-paused");
          hold(to);
        });
  };
  if (start_ || !has_agent())
    return sleep();
  announce_service();
  run_for(to, work(root_service("qubes.SuspendPre")), sleep,
          [this, sleep](const model::error& why) {
            note(spdlog::level::warn, "{}", why.text);
            sleep();
          });
}

void domain_state::carry_out(const ask::resume&, const reply& to) {
  if (facts_.state != power::suspended)
    return carry_out(ask::unpause{}, to);
  run_for(to, work(job::resume_guest{}), [this, to] {
    move(awake());
    auto woken = [this, to] {
      tell("domain-resumed");
      devices_.take_assigned_again();
      to.ok();
    };
    if (start_ || !has_agent())
      return woken();
    announce_service();
    run_for(to, work(root_service("qubes.SuspendPost")), woken,
            [this, woken](const model::error& why) {
              note(spdlog::level::warn, "{}", why.text);
              woken();
            });
  });
}

void domain_state::carry_out(const ask::run_service& x, const reply& to) {
  run_for(to, work(root_service(x.service)), [to] { to.ok(); });
}

// -- the hypervisor's news -----------------------------------------------------------------------

namespace {

/// News that says something new of a domain in this state; the rest echoes our own calls.
struct transition {
  guest_event what;
  power in;
};
constexpr transition transitions[]{
    {guest_event::started,
     power::halted}, // somebody else started it, or a create's answer was lost
    {guest_event::suspended, power::running},
    {guest_event::resumed, power::paused},
    {guest_event::slept, power::running},
};

} // namespace

void domain_state::hear(const news& x) {
  if (x.uuid != uuid_)
    return;
  if (x.what == guest_event::stopped || x.what == guest_event::crashed)
    return heard_stop();
  if (std::ranges::any_of(transitions,
                          [&](auto& t) { return t.what == x.what && t.in == facts_.state; }))
    look_again();
}

void domain_state::hear(const agent_news& x) {
  ++agents_heard_;
  agent_is(x.there);
}

/// When a life is taken for one with an agent, it may have gone again already. News that come
/// meanwhile know better.
void domain_state::look_for_agent() {
  run(
      work(job::look_for_agent{}),
      [this, heard = agents_heard_](bool there) {
        if (heard == agents_heard_)
          agent_is(there);
      },
      [this](const model::error& why) { note(spdlog::level::warn, "{}", why.text); });
}

/// A start waits for its agent by itself.
void domain_state::agent_is(bool there) {
  if (facts_.xid < 0 || start_ || facts_.agent == there)
    return;
  facts_.agent = there;
  publish_facts();
  if (there)
    devices_.take_assigned_again();
}

/// News may be late; only the present state counts.
void domain_state::look_again() {
  if (stopping_)
    look_after_stop_ = true;
  if (start_ || destroying_ || stopping_)
    return;
  run(
      work(job::inspect_guest{}), [this](const model::guest& truth) { follow(truth); },
      [this](const model::error& why) { note(spdlog::level::warn, "{}", why.text); });
}

/// Moves that others made, told as if they were ours.
void domain_state::follow(const model::guest& truth) {
  if (start_ || destroying_ || stopping_)
    return;
  if (facts_.state == power::halted)
    return reconcile(truth);
  if (facts_.state == power::running
      && (truth.state == power::paused || truth.state == power::suspended)) {
    tell_moved(truth.state);
  } else if (facts_.state == power::paused && truth.state == power::running) {
    tell_moved(truth.state);
    catch_up();
  }
}

/// What the hypervisor has is the truth; what we believed is corrected and told.
void domain_state::reconcile(const model::guest& truth) {
  auto now = look();
  auto* me = record(now);
  if (start_ && start_->undo_waits) // the hypervisor is there again
    undo_create();
  if (!me || !me->is(model::qubes_vm) || start_)
    return;
  if (facts_.xid >= 0 && truth.at != facts_.at) // of a hypervisor that it is not on
    return;
  auto first = !std::exchange(known_, true);
  auto there =
      model::is_active(truth.state) && truth.state != power::dying && truth.state != power::crashed;
  auto unfinished = first && world_->unfinished_starts.contains(uuid_);
  if (unfinished) {
    orphan_possible_ = true; // the build may go on
    operations_.remember(
        operations_.begin("start"),
        model::failure_of({errc::internal, fmt::format("the daemon ended while '{}' started", who_),
                           "start it again"}));
  }
  if (first && !there && facts_.state == power::halted)
    recover_volumes();
  if (stopping_) {
    look_after_stop_ = there;
    return;
  }
  if (truth.state == power::crashed && facts_.xid == truth.xid && !destroying_)
    return crashed();
  if (!there) {
    if (facts_.state != power::halted)
      stopped();
    else if (first && world_->leftovers.contains(uuid_))
      clean_up(); // of an earlier life of the daemon
    return;
  }
  if (facts_.state != power::halted && facts_.xid != truth.xid)
    stopped(); // one life ended and another began while nobody looked
  if (stopping_) {
    look_after_stop_ = true;
    return;
  }
  if (facts_.state == power::halted && orphan_possible_
      && (unfinished || truth.state == power::paused))
    return end_orphan(truth);
  if (facts_.state == power::halted) {
    note(spdlog::level::info, "adopted: {}, id {}", wire_name(truth.state), truth.xid);
    live_as(truth);
    facts_.agent = true;
    look_for_agent();
    entries_.watch([this] { devices_.look_at_all(); });
    network_.find();
    firewall_.refresh();
    if (auto clients = supervisor())
      self->send(clients, atom::up_v, netvm_life::known);
  }
  if (facts_.state != truth.state && truth.state != power::halting)
    tell_moved(truth.state);
}

/// A move that others made, told as if it were ours. Of a sleep nothing is told but its end.
void domain_state::tell_moved(power to) {
  auto from = facts_.state;
  move(to);
  if (to == power::paused)
    tell("domain-paused");
  else if (to == power::running)
    tell(from == power::suspended ? "domain-resumed" : "domain-unpaused");
}

/// The hypervisor has finished a build after we were told that it failed, or a daemon before us did
/// not get to the end of a start. The guest lives until it is taken down.
void domain_state::end_orphan(const model::guest& truth) {
  note(spdlog::level::warn, "a guest that a start left behind is taken down");
  orphan_possible_ = false;
  live_as(truth);
  move(truth.state);
  destroy();
}

/// Nobody may touch the volumes of a guest that the hypervisor has not told of yet.
void domain_state::learn_truth(const std::function<void()>& then, const reply& to) {
  run(
      work(job::inspect_guest{}),
      [this, then](const model::guest& truth) {
        reconcile(truth);
        known_ = true; // also of what is no domain with a guest
        then();
      },
      [to](const model::error& why) { to.refuse(why); }, then);
}

/// What an earlier daemon left running is committed or discarded; a start that comes meanwhile
/// finds its volumes in order after that.
void domain_state::recover_volumes() {
  auto disks = my_disks();
  if (!disks)
    return;
  ask_storage(self, world_, std::move(*disks), disk_job::stop_disks{})
      .then([this] { recover({trouble::volumes}); },
            [this](const caf::error& x) {
              degrade(trouble::volumes,
                      fmt::format("its volumes could not be recovered: {}", from_caf(x).message()));
            });
}

/// It goes on after a pause: somebody uses it now, and a change of netvm that it missed is made up
/// for, as soon as that netvm serves (spec/network.md §4).
void domain_state::catch_up() {
  auto now = look();
  auto v = now.view();
  auto* me = record(now);
  if (!me || facts_.state != power::running)
    return network_.sync();
  if (model::is_preload(v, *me))
    self->send(world_->disposables, atom::open_v, who_);
  devices_.take_assigned_again();
  menus_.take_up();
  catch_up_network();
}

/// Its netvm is there, or it is: what it missed while one of them was not is made up for.
void domain_state::catch_up_network() {
  auto now = look();
  auto v = now.view();
  auto* me = record(now);
  if (!me || facts_.state != power::running)
    return network_.sync();
  auto* mark = me->features.find(model::deferred_netvm);
  if (!mark || (model::netvm_of(v, *me) && !network_.serving_netvm()))
    return network_.sync();
  auto former = mark->empty() ? model::value{} : model::value{*mark};
  auto next = model::read({v, me}, "netvm");
  self->send(world_->events,
             events{model::property_event("property-pre-set", me, "netvm", next, former)});
  auto has_agent = model::has_agent(v, *me);
  auto told = model::property_event("property-set", me, "netvm", next, former);
  catching_up_ = true;
  network_.link().turn([](auto& x) {
    x.connect_anew();
    x.guest_must_be_told();
  });
  network_.sync([this, told, has_agent, life = life_] {
    catching_up_ = false;
    if (life != life_)
      return;
    self->send(world_->events, events{told});
    forget_deferred([this, has_agent, life] {
      if (life == life_ && has_agent && network_.link().now().interface())
        await_uplink();
      devices_.tell_changed();
    });
  });
}

/// Programs in the guest shall find the network when they go on.
void domain_state::await_uplink() {
  announce_service();
  auto what = root_service("qubes.WaitForNetworkUplink");
  what.patience = std::chrono::seconds{10};
  run(
      work(std::move(what)), [] {},
      [this](const model::error& why) {
        note(spdlog::level::warn, "its network may not be up: {}", why.text);
      });
}

void domain_state::forget_deferred(const std::function<void()>& then) {
  auto now = look();
  auto* me = record(now);
  if (!me || !me->features.find(model::deferred_netvm))
    return then();
  change([](auto& v, auto& x) { return plan_forget_deferred(v, x); },
         heard_here_([then](const auto&) { then(); }));
}

} // namespace qubes::actors
