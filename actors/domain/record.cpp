// Changes of a domain's record: planned, made durable, then told (design §4).
#include "actors/common/guest_notification.hpp"
#include "actors/domain/domain.hpp"
#include "model/change/change.hpp"
#include "model/guest/qubesdb.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

void domain_state::change(planner what, const reply& to) {
  pending_changes_.push_back({std::move(what), to});
  if (!changing_)
    next_change();
}

void domain_state::next_change() {
  while (!changing_ && !pending_changes_.empty()) {
    auto x = std::move(pending_changes_.front());
    pending_changes_.pop_front();
    attempt(x);
  }
}

void domain_state::attempt(const pending_change& x) {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return x.to.refuse(model::no_such_domain(who_));
  auto plan = with_consequences(now.view(), x.what(now.view(), *me));
  if (plan.refusal) {
    self->send(world_->events, std::move(plan.before));
    return x.to.refuse(*plan.refusal);
  }
  if (plan.what.empty()) { // nothing durable: a reset of a computed value
    tell_menus(self, world_, now.system, plan.what, plan.after);
    self->send(world_->events, std::move(plan.before));
    self->send(world_->events, std::move(plan.after));
    return x.to.ok();
  }
  auto netvm = netvm_after(now, plan.what);
  if (netvm && !network_.link().now().netvms().contains(*netvm))
    return reserve(x, *netvm);
  commit({plan, now.system, x.reserved, x.to});
}

/// The netvm that this change gives a live domain; nothing when it does not touch it.
std::optional<std::string> domain_state::netvm_after(const snapshot& now,
                                                     const model::change& what) const {
  if (!lives() || !model::touches(what, "netvm"))
    return std::nullopt;
  auto after = model::apply(*now.system, *now.machine, what);
  if (!after)
    return std::nullopt;
  auto v = model::view{*after, world_->board, *now.machine};
  auto* netvm = model::read_domain({v, after->find(who_)}, "netvm");
  return netvm ? std::optional{netvm->name.str()} : std::nullopt;
}

/// A netvm must know of its new client before the change is made, or it might stop in between.
void domain_state::reserve(pending_change x, const std::string& netvm) {
  changing_ = true;
  x.reserved = network_.link().reserve(netvm);
  waits_for_netvm_ = std::move(x);
  auto waits = [this, number = ++reservations_] { return number == reservations_; };
  network_.link().ask(
      netvm,
      [this, waits] {
        if (waits())
          netvm_was_waited_for();
      },
      [this, waits](const model::error& why) {
        if (!waits())
          return;
        auto x = *std::exchange(waits_for_netvm_, std::nullopt);
        x.to.refuse(why);
        change_ended();
      });
}

/// The netvm is up, or there is no life any more that could be connected to it.
void domain_state::netvm_was_waited_for() {
  ++reservations_;
  auto x = *std::exchange(waits_for_netvm_, std::nullopt);
  changing_ = false;
  attempt(x);
  if (!changing_)
    change_ended();
}

/// A netvm counts the living: a change that waits for one goes on without it.
void domain_state::needs_no_netvm() {
  if (!waits_for_netvm_)
    return;
  waits_for_netvm_->reserved = {};
  netvm_was_waited_for();
}

bool domain_state::lives() const {
  return facts_.state != model::power::halted && !stopping_ && !(start_ && start_->failed);
}

void domain_state::commit(const commitment& x) {
  changing_ = true;
  if (facts_.state == model::power::paused && chooses_netvm(x.plan.what)) // told what it will find
    network_.link().turn([](auto& link) { link.guest_must_be_told(); });  // when it goes on
  if (moves_network(look(), x.plan.what))
    unplug_before(x);
  else
    prepare_boot(x);
}

/// Also the same one: whoever chooses it again wants to be connected anew.
bool domain_state::chooses_netvm(const model::change& what) const {
  return std::ranges::any_of(what.edits, [&](auto& x) {
    auto* set = std::get_if<model::set_property>(&x);
    return set && set->owner == who_ && set->name == "netvm";
  });
}

/// Whether this change takes a running guest off its netvm.
bool domain_state::moves_network(const snapshot& now, const model::change& what) const {
  auto& link = network_.link().now();
  return facts_.state == model::power::running && !start_
         && link.state() == model::uplink_state::plugged
         && (chooses_netvm(what)
             || (model::touches(what, "netvm")
                 && netvm_after(now, what) != link.interface()->netvm));
}

/// Off the former netvm before the change is made: who is told that a domain is offline must be
/// able to believe it. What cannot be taken away is a refusal, as in the stock daemon.
void domain_state::unplug_before(const commitment& x) {
  network_.link().turn([](auto& link) { link.hold(); });
  auto go_on = [this, x] {
    network_.link().turn([](auto& link) { link.guest_must_be_told(); }); // the same is news as well
    prepare_boot(x);
  };
  network_.sync([this, x, go_on] {
    if (!network_.link().now().interface() || facts_.state != model::power::running)
      return go_on();
    network_.detach_interface([this, x, go_on](const model::outcome<void>& done) {
      if (done)
        return go_on();
      auto* link = network_.link().now().interface();
      not_committed(x, {done.error().code,
                        fmt::format("'{}' could not be disconnected from its netvm '{}': {}", who_,
                                    link ? link->netvm : "", done.error().text),
                        "try again, or shut it down first"});
    });
  });
}

/// The host's boot is prepared before the change is made: what cannot be done is not acknowledged.
void domain_state::prepare_boot(const commitment& x) {
  auto boots = autostart_after(x.plan.what);
  if (!boots)
    return make_durable(x);
  ask_driver(self, world_, work(job::start_at_boot{*boots}))
      .then([this, x] { make_durable(x); },
            [this, x](const caf::error& why) { not_committed(x, from_caf(why)); });
}

/// Whether it starts with the host after this change; nothing when that stays as it is.
std::optional<bool> domain_state::autostart_after(const model::change& what) const {
  if (!model::touches(what, "autostart"))
    return std::nullopt;
  auto now = look();
  auto after = model::apply(*now.system, *now.machine, what);
  auto starts = [&](const model::system& x) {
    return model::read_bool({{x, world_->board, *now.machine}, x.find(who_)}, "autostart");
  };
  if (!after || !after->find(who_) || starts(*after) == starts(*now.system))
    return std::nullopt;
  return starts(*after);
}

void domain_state::make_durable(const commitment& x) {
  note_removal(x.plan, [this, x] { write(x); });
}

void domain_state::write(const commitment& x) {
  timed_request(self, world_, world_->store, world_->settings.commit, x.plan.what, x.to.caller())
      .then(
          [this, x](const model::system_ptr&) {
            network_.link().turn([this](auto& link) {
              link.let_go();
              link.wants(network_.netvm_in_record());
            });
            committed(x.plan, x.before, x.to);
          },
          [this, x](const caf::error& why) {
            auto reason = from_caf(why);
            auto boots = autostart_after(x.plan.what);
            auto may_yet_be = reason.code == errc::timed_out;
            if (boots && !may_yet_be)
              start_at_boot(self, world_, who_, !*boots);
            if (!may_yet_be)
              forget_removal(x.plan);
            not_committed(x, reason);
          });
}

void domain_state::not_committed(const commitment& x, const model::error& why) {
  self->send(world_->events, x.plan.before);
  x.to.refuse(why);
  auto held = false;
  network_.link().turn([&](auto& link) { held = link.let_go(); });
  if (held)
    network_.sync(); // it stays where it was
  change_ended();
}

void domain_state::change_ended() {
  changing_ = false;
  if (!catching_up_)
    devices_.tell_changed();
  auto starts = std::exchange(starts_after_change_, {});
  if (!starts.empty())
    world_->status.finish(who_);
  for (auto& x : starts)
    start(x);
  next_change();
  if (lost_record_ && !gone_)
    lose_record();
}

/// Effects follow facts: the change is durable, now the world is brought in line with it.
void domain_state::committed(const model::plan& done, const model::system_ptr& before,
                             const reply& to) {
  if (removed_by(done, before, to))
    return;
  auto finish = [this, done, to] {
    self->send(world_->events, done.after);
    to.ok();
    change_ended();
  };
  self->send(world_->events, done.before);
  tell_menus(self, world_, before, done.what, done.after);
  devices_.move_sound(before, done.what);
  if (std::ranges::any_of(done.what.edits,
                          [](auto& x) { return std::holds_alternative<model::set_devices>(x); }))
    devices_.withdraw_questions();
  tell_change(self, world_, before, done.what, who_,
              [this, before, finish] { follow_record(before, finish); });
}

/// What it may be given, its place in the network, and that of its clients.
void domain_state::follow_record(const model::system_ptr& before,
                                 const std::function<void()>& finish) {
  auto now = look();
  auto* me = record(now);
  auto* former = before->find(who_);
  if (!me || !former || !me->is(model::qubes_vm))
    return finish();
  auto v = now.view();
  auto v_before = model::view{*before, world_->board, *now.machine};
  if (facts_.xid > 0
      && model::read_int({v, me}, "maxmem") != model::read_int({v_before, former}, "maxmem"))
    tell_ceiling(*me);
  auto netvm_changed =
      model::read_text({v, me}, "netvm") != model::read_text({v_before, former}, "netvm");
  supervise_clients([this, finish, netvm_changed] {
    if ((netvm_changed || network_.link().now().guest_knows_none()) && facts_.xid >= 0 && !start_)
      network_.sync(finish);
    else
      finish();
  });
}

/// The memory manager reads there how much memory it may give.
void domain_state::tell_ceiling(const model::domain& me) {
  auto entries = model::ceiling_entries(look().view(), me, facts_.xid);
  if (!entries.empty())
    run(
        work(job::write_xenstore{std::move(entries)}), [] {},
        [this](const model::error& why) {
          note(spdlog::level::warn, "its new maxmem counts from the next start: {}", why.text);
        });
}

} // namespace qubes::actors
