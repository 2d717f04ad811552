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
  auto now = look();
  auto* me = now.find(who_);
  if (me) {
    qid_ = me->qid;
    uuid_ = me->uuid;
  }
  network.begin();
  adopt_board();
  guest.is_known(is_new || (me && !me->is(model::qubes_vm))); // else it has no guest here
  if (me && me->is(model::admin_vm))
    entries.wake_dom0(*me);
  return {
      [this](const order& x, const reply& to) { obey(x, to); },
      [this](atom::start) {
        auto to = self->make_response_promise<caf::typed_response_promise<void>>();
        start.begin(reply_to(to));
        return to;
      },
      [this](netvm_up) { pause.catch_up_network(); },
      [this](const netvm_fell& x) { network.fell(x.netvm); },
      [this](netvm_may_differ) { network.follow_record(); },
      [this](const news& x) { guest.hear(x); },
      [this](const guest_news& x) { devices.hear(x); },
      [this](const watch_end&) { entries.watch_ended(); },
      [this](const agent_news& x) { guest.hear(x); },
      [this](const device_available& x) { devices.take(x); },
      [this](const device_request& x) { devices.hear(x); },
      [this](const device_removed& x) {
        start.required_is_gone(x);
        devices.lose(x);
      },
      [this](const port_freed& x) { devices.offer_next(x); },
      [this](const questions_due&) { devices.review_questions(); },
      [this](const device_passed& x) { devices.gain(x); },
      [this](const model::menu_turn& x) { menus.hear(x); },
      [this](atom::reconcile, const model::guest& truth) { guest.reconcile(truth); },
      [this](record_gone) { removal.lose_record(); },
      [this](atom::expire, std::uint64_t armed) { firewall.expire(armed); },
      [this](atom::overdue, std::uint64_t waiter) { stop.deadline_passed(waiter); },
      [this](atom::tick, std::uint64_t life) { tick(life); },
      [](const completion& run) { run(); },
  };
}

/// After a fault of its own an actor begins again from what others could see. An end that was under
/// way goes on, and a start is undone.
void domain_state::adopt_board() {
  facts_ = world_->board.read(qid_);
  facts_.going_down = false;
  if (facts_.degraded && facts_.state == power::halted)
    guest.recover_volumes();
  publish_troubles(); // what still degrades it is found again
  if (auto clients = supervisor())
    self->send(clients, atom::open_v);
  if (facts_.state == power::starting)
    return start.undo_cut_off(
        {errc::internal, fmt::format("a fault of the daemon cut the start of '{}' off", who_), {}});
  if (facts_.xid < 0 && facts_.state != power::halted)
    return stop.resume();
  if (facts_.state == power::halting)
    facts_.state = power::running;
  publish_facts();
  if (facts_.xid < 0)
    world_->holders.give_back_all(who_);
  devices.adopt();
  if (facts_.xid > 0) {
    guest.look_for_agent();
    network.find();
    firewall.refresh();
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

template <class What>
void domain_state::hand_to_part(const What& what, const reply& to) {
  if constexpr (requires { carry_out(what, to); })
    carry_out(what, to);
  else
    hand_to(what, to, start, stop, pause, volumes, firewall, devices, changes);
}

/// Work that is under way when the domain's record goes ends with it; a removal has ended well.
reply domain_state::while_there(const order& x, const reply& to) const {
  using told = model::outcome<std::string>;
  return with_outcome(to, [world = world_, who = who_, uuid = uuid_,
                           removes = std::holds_alternative<ask::remove>(x.what)](told how) {
    auto now = world->system.read();
    if (how || how.error().code != errc::internal || now->find_uuid(uuid))
      return how;
    return removes ? told{""} : told{tl::unexpected{model::no_such_domain(who)}};
  });
}

void domain_state::obey(const order& x, const reply& of) {
  auto to = while_there(x, of);
  if (!is_of_record())
    return to.refuse(model::no_such_domain(who_));
  dispatch<ask::receiver::domain>(x, to, [&]<class What>(const What& what) {
    if (auto why = no_power_switch(What::how.guests_only))
      return to.refuse(std::move(*why));
    if (What::how.changes_disks && !guest.is_known() && facts_.state == power::halted)
      return guest.learn([this, what, to] { hand_to_part(what, to); }, to);
    constexpr auto name = What::how.remembered;
    hand_to_part(what, name.empty() ? to : operations.remembering(name, to));
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

/// A domain that lacks what its overlay changes starts all the same.
void domain_state::tell_skipped(const std::vector<std::string>& skipped) {
  auto file = overlay_of(who_);
  if (world_->status.find(who_, file, skipped))
    for (auto& x : skipped)
      note(spdlog::level::warn, "{}: {}", file, x);
}

/// The XML as of a start now; which devices its volumes will be is not known before.
void domain_state::carry_out(const ask::tell_xml& x, const reply& to) {
  auto read = [this, plain = x.plain, to](const std::optional<std::string>& overlay) {
    auto now = look();
    auto* me = record(now);
    if (!me)
      return to.refuse(model::no_such_domain(who_));
    auto known = start_materials{};
    if (!plain)
      known.overlay = overlay;
    auto xml = describe_guest(now.view(), *me, known);
    if (xml && !plain)
      tell_skipped(xml->skipped);
    xml ? to.ok(xml->text) : to.refuse(xml.error());
  };
  look_up(to, work(job::read_overlay{}), read);
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
  volumes.tick(); // what their disks have outlives this life
  if (life != life_)
    return;
  start.tick();
  network.tick();
  guest.tick();
  entries.tick();
  devices.tick();
  firewall.tick();
}
} // namespace qubes::actors
