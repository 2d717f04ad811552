#include "actors/domain/guest.hpp"

#include "actors/domain/domain.hpp"
#include "model/property/kind_of.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::guest_event;
using model::power;

namespace {

/// News that says something new of a domain in this state; the rest echoes our own calls.
struct transition {
  guest_event what;
  power in;
};
constexpr transition transitions[]{
    {guest_event::started,
     power::halted}, // another program started it, or a create's answer was lost
    {guest_event::suspended, power::running},
    {guest_event::resumed, power::paused},
    {guest_event::slept, power::running},
};

} // namespace

void domain_guest::hear(const news& x) {
  if (x.uuid != domain_.uuid())
    return;
  if (x.what == guest_event::stopped || x.what == guest_event::crashed)
    return domain_.stop.heard_of();
  if (std::ranges::any_of(
          transitions, [&](auto& t) { return t.what == x.what && t.in == domain_.facts().state; }))
    look_again();
}

/// A list without the agent may be older than the start that waited for it.
void domain_guest::hear(const agent_news& x) {
  ++agents_heard_;
  if (x.there)
    agent_is(true);
  else if (domain_.facts().agent)
    look_for_agent(false);
}

/// When a life is taken for one with an agent, the agent may have gone again already. News that
/// come meanwhile know better.
void domain_guest::look_for_agent(std::optional<bool> unless_known) {
  domain_.run(
      domain_.work(job::look_for_agent{}),
      [this, heard = agents_heard_](bool there) {
        if (heard == agents_heard_)
          agent_is(there);
      },
      [this, heard = agents_heard_, unless_known](const model::error& why) {
        domain_.note(spdlog::level::warn, "{}", why.text);
        if (unless_known && heard == agents_heard_)
          agent_is(*unless_known);
      });
}

/// A start waits for its agent by itself.
void domain_guest::agent_is(bool there) {
  if (domain_.facts().xid < 0 || domain_.start.is_under_way() || domain_.facts().agent == there)
    return;
  domain_.agent_is_there(there);
  domain_.publish_facts();
  if (there)
    domain_.devices.take_assigned_again();
}

void domain_guest::look_again() {
  if (domain_.stop.is_stopping_volumes())
    domain_.stop.look_at_end(true);
  if (is_ours_to_tell())
    return;
  domain_.run(
      domain_.work(job::inspect_guest{}),
      [this, moves = domain_.moves()](const model::guest& truth) {
        moves == domain_.moves() ? follow(truth) : look_again();
      },
      [this](const model::error& why) { look_later(why); });
}

void domain_guest::look_later(const model::error& why) {
  domain_.note(spdlog::level::warn, "the hypervisor does not tell its state: {}", why.text);
  domain_.try_again(pause_);
}

void domain_guest::tick() {
  if (!domain_.comes_due(pause_))
    return;
  domain_.stop.heard_of();
  look_again();
}

/// Work under way here tells of what it does itself.
bool domain_guest::is_ours_to_tell() const {
  return domain_.start.is_under_way() || domain_.stop.is_destroying()
         || domain_.stop.is_stopping_volumes();
}

/// Moves of the guest that others made, told as if they were ours.
void domain_guest::follow(const model::guest& truth) {
  if (is_ours_to_tell())
    return;
  if (domain_.facts().state == power::halted)
    return reconcile(truth);
  auto pauses = domain_.facts().state == power::running
                && (truth.state == power::paused || truth.state == power::suspended);
  auto goes_on = domain_.facts().state == power::paused && truth.state == power::running;
  if (pauses || goes_on)
    domain_.pause.moved(truth.state);
}

void domain_guest::reconcile(const model::guest& truth) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (domain_.start.waits_with_undo()) // the hypervisor is there again
    domain_.start.undo_create();
  if (!me || !me->is(model::qubes_vm) || domain_.start.is_under_way())
    return;
  auto of_another_hypervisor = domain_.facts().xid >= 0 && truth.at != domain_.facts().at;
  if (of_another_hypervisor)
    return;
  auto first = !std::exchange(known_, true);
  auto there =
      model::is_active(truth.state) && truth.state != power::dying && truth.state != power::crashed;
  if (first && domain_.facts().state == power::halted
      && domain_.world()->unfinished_starts.take(domain_.uuid()))
    return domain_.start.undo_cut_off(
        {errc::internal, fmt::format("the daemon ended while '{}' started", domain_.who()),
         "start it again"});
  if (first && !there && domain_.facts().state == power::halted)
    recover_volumes();
  if (domain_.stop.is_stopping_volumes()) {
    domain_.stop.look_at_end(there);
    return;
  }
  if (truth.state == power::crashed && domain_.facts().xid == truth.xid
      && !domain_.stop.is_destroying())
    return domain_.stop.crashed();
  if (!there) {
    if (domain_.facts().state != power::halted)
      domain_.stop.stopped();
    else if (first && domain_.world()->leftovers.contains(domain_.uuid()))
      domain_.removal.clean_up(); // of an earlier life of the daemon
    return;
  }
  if (!domain_.stop.is_destroying()) // a kill that did not work is over
    domain_.recover({domain_core::trouble::kill});
  if (domain_.facts().state != power::halted && domain_.facts().xid != truth.xid)
    domain_.stop.stopped(); // one life ended and another began unseen
  if (domain_.stop.is_stopping_volumes()) {
    domain_.stop.look_at_end(true);
    return;
  }
  auto as_built =
      truth.state == power::paused || !model::abilities_of(now.view(), *me).paused_start;
  if (domain_.facts().state == power::halted && domain_.start.may_leave_orphan() && as_built)
    return domain_.start.undo_cut_off(
        {errc::internal,
         fmt::format("the start of '{}' was given up, and its guest came after that",
                     domain_.who()),
         {}});
  if (domain_.facts().state == power::halted)
    adopt(truth);
  if (truth.state != power::halting)
    domain_.pause.moved(truth.state);
}

/// The guest was started by an earlier daemon, or by others.
void domain_guest::adopt(const model::guest& truth) {
  domain_.note(spdlog::level::info, "adopted: {}, id {}", wire_name(truth.state), truth.xid);
  domain_.live_as(truth);
  domain_.agent_is_there(true);
  look_for_agent();
  domain_.entries.watch([this] { domain_.devices.look_at_all(); });
  domain_.network.find();
  domain_.firewall.refresh();
  if (auto clients = domain_.supervisor())
    domain_.self->send(clients, provider_up{netvm_life::known});
}

void domain_guest::learn(const std::function<void()>& then, const reply& to) {
  domain_.run(
      domain_.work(job::inspect_guest{}),
      [this, then](const model::guest& truth) {
        reconcile(truth);
        known_ = true; // also of what is no domain with a guest
        then();
      },
      [to](const model::error& why) { to.refuse(why); }, then);
}

/// What an earlier daemon left running is committed or discarded; a start that comes meanwhile
/// finds its volumes in order after that.
void domain_guest::recover_volumes() {
  auto disks = domain_.my_disks();
  if (!disks)
    return;
  ask_storage(domain_.self, domain_.world(), std::move(*disks), disk_job::stop_disks{})
      .then([this] { domain_.recover({domain_core::trouble::volumes}); },
            [this](const caf::error& x) {
              domain_.degrade(
                  domain_core::trouble::volumes,
                  fmt::format("its volumes could not be recovered: {}", from_caf(x).message()));
            });
}

} // namespace qubes::actors
