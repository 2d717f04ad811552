#include "actors/domain/domain.hpp"

#include "model/base/notes.hpp"
#include "model/property/graph.hpp"
#include "model/property/memory.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::power;

domain_actor::behavior_type domain(domain_actor::stateful_pointer<domain_state> self, world_ptr in,
                                   std::string who, bool is_new) {
  return self->state.make(std::move(in), std::move(who), is_new);
}

domain_actor::behavior_type domain_state::make(world_ptr in, std::string who, bool is_new) {
  world_ = std::move(in);
  who_ = std::move(who);
  known_ = is_new;
  auto now = look();
  auto* me = now.find(who_);
  if (me) {
    qid_ = me->qid;
    uuid_ = me->uuid;
  }
  network_.begin();
  adopt_board();
  if (me && !me->is(model::qubes_vm))
    known_ = true; // it has no guest here
  if (me && me->is(model::admin_vm))
    entries_.wake_dom0(*me);
  return {
      [this](const order& x, const reply& to) { obey(x, to); },
      [this](atom::start) {
        auto to = self->make_response_promise<caf::typed_response_promise<void>>();
        start(reply_to(to));
        return to;
      },
      [this](atom::up) { catch_up_network(); },
      [this](atom::down, const std::string& netvm) { network_.fell(netvm); },
      [this](atom::reload) { network_.follow_record(); },
      [this](const news& x) { hear(x); },
      [this](const guest_news& x) { devices_.hear(x); },
      [this](const watch_end&) { entries_.watch_ended(); },
      [this](const agent_news& x) { hear(x); },
      [this](const device_available& x) { devices_.take(x); },
      [this](const device_request& x) { devices_.hear(x); },
      [this](const device_removed& x) {
        required_is_gone(x);
        devices_.lose(x);
      },
      [this](const port_freed& x) { devices_.offer_next(x); },
      [this](const questions_due&) { devices_.review_questions(); },
      [this](const device_passed& x) { devices_.gain(x); },
      [this](const model::menu_turn& x) { menus_.hear(x); },
      [this](atom::reconcile, const model::guest& truth) { reconcile(truth); },
      [this](atom::gone) { lose_record(); },
      [this](atom::expire, std::uint64_t armed) { firewall_.expire(armed); },
      [this](atom::overdue, std::uint64_t waiter) { deadline_passed(waiter); },
      [this](atom::tick, std::uint64_t life) { tick(life); },
      [](const completion& run) { run(); },
  };
}

/// After a fault of its own an actor begins again from what everybody could see. An end that was
/// under way goes on, and a start is undone.
void domain_state::adopt_board() {
  facts_ = world_->board.read(qid_);
  facts_.going_down = false;
  if (auto clients = supervisor())
    self->send(clients, atom::open_v);
  if (facts_.state == power::starting)
    return resume_undo();
  if (facts_.xid < 0 && facts_.state != power::halted) {
    stopping_ = true;
    publish_facts();
    return stop_volumes([this] { finish_stop(); });
  }
  if (facts_.state == power::halting)
    facts_.state = power::running;
  publish_facts();
  if (facts_.xid < 0)
    world_->holders.give_back_all(who_);
  devices_.adopt();
  if (facts_.xid > 0) {
    look_for_agent();
    network_.find();
  }
}

// -- orders --------------------------------------------------------------------------------------

/// dom0 and domains of other hosts have no power switch here.
std::optional<model::error> domain_state::no_power_switch(std::string_view participle) const {
  auto now = look();
  auto* me = record(now);
  if (participle.empty() || !me || me->is(model::qubes_vm))
    return std::nullopt;
  auto* where = me->is(model::admin_vm) ? "is this host" : "runs on another host";
  return model::error{
      errc::vm_error, fmt::format("'{}' {} and cannot be {}", who_, where, participle), {}};
}

void domain_state::obey(const order& x, const reply& to) {
  if (!is_of_record())
    return to.refuse(model::no_such_domain(who_));
  dispatch<ask::receiver::domain>(x, to, [&]<class What>(const What& what) {
    if (auto why = no_power_switch(What::how.guests_only))
      return to.refuse(std::move(*why));
    if (What::how.changes_disks && !known_ && facts_.state == power::halted)
      return learn_truth([this, what, to] { hand_to_part(what, to); }, to);
    constexpr auto name = What::how.remembered;
    hand_to_part(what, name.empty() ? to : operations_.remembering(name, to));
  });
}

void domain_state::carry_out(const ask::current_state&, const reply& to) {
  auto tell_it = [this, to](std::uint64_t memory_kib, std::uint64_t cpu_time_ns) {
    auto now = look();
    auto* me = record(now);
    if (!me)
      return to.refuse(model::no_such_domain(who_));
    auto v = now.view();
    auto active = me->is(model::admin_vm) || model::is_active(facts_.state);
    to.ok(fmt::format("mem={} mem_static_max={} cputime={} power_state={}", active ? memory_kib : 0,
                      active ? model::most_memory(v, *me) * 1024 : 0, active ? cpu_time_ns : 0,
                      wire_name(model::power_of(v, *me))));
  };
  auto now = look();
  auto* me = record(now);
  if (me && me->is(model::admin_vm)) {
    // Not every hypervisor knows the host as a domain.
    auto unknown = [tell_it, kib = now.machine->dom0_memory_mib * 1024] { tell_it(kib, 0); };
    return run(
        work(job::inspect_guest{}),
        [tell_it, unknown](const model::guest& x) {
          x.memory_kib > 0 ? tell_it(x.memory_kib, x.cpu_time_ns) : unknown();
        },
        [unknown](const model::error&) { unknown(); });
  }
  if (facts_.xid < 0)
    return tell_it(0, 0);
  look_up(to, work(job::inspect_guest{}),
          [tell_it](const model::guest& x) { tell_it(x.memory_kib, x.cpu_time_ns); });
}

/// dom0 has no console that libvirt knows of.
void domain_state::carry_out(const ask::tell_console&, const reply& to) {
  auto now = look();
  auto* me = record(now);
  if (me && me->is(model::admin_vm))
    return to.ok();
  if (facts_.xid < 0)
    return to.refuse({errc::vm_not_running, fmt::format("'{}' is not running", who_), {}});
  run_for(to, work(job::find_console{}), [to](const std::string& where) { to.ok(where); });
}
/// Notes are in the directory of a domain; what has none here has no notes here.
void domain_state::carry_out(const ask::get_notes&, const reply& to) {
  auto mine = directory_of_mine();
  if (mine.empty())
    return to.ok();
  look_up(to, work(job::read_notes{std::move(mine)}),
          [to](const std::string& notes) { to.ok(notes); });
}

void domain_state::carry_out(const ask::set_notes& x, const reply& to) {
  auto clean = model::sanitize_notes(x.notes);
  if (!clean)
    return to.refuse(clean.error());
  auto mine = directory_of_mine();
  if (mine.empty() && clean->empty())
    return to.ok();
  if (mine.empty())
    return to.refuse(
        {errc::general, fmt::format("'{}' runs on another host and has no notes here", who_), {}});
  look_up(to, work(job::write_notes{std::move(mine), *clean}), [to] { to.ok(); });
}
// -- small things -------------------------------------------------------------------------------
/// Something that failed in this life is due again; an earlier life's is over.
void domain_state::tick(std::uint64_t life) {
  volumes_.tick(); // what their disks have outlives this life
  if (life != life_)
    return;
  if (start_ && start_->undo_waits)
    undo_create();
  else
    network_.tick();
  entries_.tick();
  devices_.tick();
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
