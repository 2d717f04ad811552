// Changes of a domain's record: planned, made durable, then told (design §4).
#include "actors/domain.hpp"
#include "actors/telling.hpp"
#include "model/change.hpp"
#include "model/property.hpp"
#include "model/qubesdb.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

void domain_state::change(planner what, const reply& to) {
  wishes_.push_back({std::move(what), to});
  if (!changing_)
    next_wish();
}

void domain_state::next_wish() {
  while (!changing_ && !wishes_.empty()) {
    auto x = std::move(wishes_.front());
    wishes_.pop_front();
    attempt(x, {});
  }
}

/// `reserved` is a netvm that counts us as its client already, for the sake of this wish.
void domain_state::attempt(const wish& x, const std::string& reserved) {
  auto now = look();
  auto* me = record(now);
  if (!me) {
    leave(reserved);
    return x.to.refuse({errc::vm_not_found, fmt::format("no such domain: '{}'", who_), {}});
  }
  auto plan = with_consequences(now.view(), x.what(now.view(), *me));
  if (plan.refusal) {
    leave(reserved);
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
  if (netvm && *netvm != member_of_ && *netvm != reserved)
    return reserve(x, *netvm);
  commit(plan, now.system, netvm ? reserved : std::string{}, x.to);
}

/// The netvm that this change gives a live domain; nothing when it does not touch it.
std::optional<std::string> domain_state::netvm_after(const snapshot& now,
                                                     const model::change& what) const {
  if (facts_.state == model::power::halted || !model::touches(what, "netvm"))
    return std::nullopt;
  auto after = model::apply(*now.system, *now.machine, what);
  if (!after)
    return std::nullopt;
  auto v = model::view{*after, world_->board, *now.machine};
  auto* netvm = model::read_domain({v, after->find(who_)}, "netvm");
  return netvm ? std::optional{netvm->name.str()} : std::nullopt;
}

/// A netvm must know of its new client before the change is made, or it might stop in between.
void domain_state::reserve(const wish& x, const std::string& netvm) {
  auto actors = world_->directory.read();
  auto* entry = actors->find(netvm);
  if (!entry || !entry->netvm)
    return x.to.refuse({errc::vm_error, fmt::format("netvm '{}' is not there", netvm), {}});
  changing_ = true;
  timed_request(self, world_, entry->netvm, world_->settings.start, atom::join_v, who_,
                domain_actor{self})
      .then(
          [this, x, netvm] {
            changing_ = false;
            auto still = facts_.state == model::power::halted ? std::string{} : netvm;
            if (still.empty())
              leave(netvm);
            attempt(x, still);
            if (!changing_)
              change_ended();
          },
          [this, x](const caf::error& why) {
            x.to.refuse(from_caf(why));
            change_ended();
          });
}

void domain_state::commit(const model::plan& plan, const model::system_ptr& before,
                          const std::string& reserved, const reply& to) {
  changing_ = true;
  if (facts_.state == model::power::paused && chooses_netvm(plan.what))
    entries_name_.clear(); // it is told what it will find when it goes on
  if (moves_network(look(), plan.what))
    unplug_before(plan, before, reserved, to);
  else
    prepare_boot(plan, before, reserved, to);
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
  return facts_.state == model::power::running && !start_ && plugged_ && !interface_dead_
         && (chooses_netvm(what)
             || (model::touches(what, "netvm") && netvm_after(now, what) != plugged_->netvm));
}

/// Off the former netvm before the change is made: who is told that a domain is offline must be
/// able to believe it. What cannot be taken away is a refusal, as in the stock daemon.
void domain_state::unplug_before(const model::plan& plan, const model::system_ptr& before,
                                 const std::string& reserved, const reply& to) {
  auto go_on = [this, plan, before, reserved, to] { prepare_boot(plan, before, reserved, to); };
  moving_network_ = true;
  sync_network([this, plan, reserved, to, go_on] {
    if (!plugged_ || facts_.state != model::power::running)
      return go_on();
    detach_interface([this, plan, reserved, to, go_on](const model::outcome<void>& done) {
      if (done) {
        entries_name_.clear(); // the same netvm again is news as well
        return go_on();
      }
      not_committed(plan, reserved,
                    {done.error().code,
                     fmt::format("'{}' could not be disconnected from its netvm '{}': {}", who_,
                                 plugged_ ? plugged_->netvm : "", done.error().text),
                     "try again, or shut it down first"},
                    to);
    });
  });
}

/// The host's boot is prepared before the change is made: what cannot be done is not acknowledged.
void domain_state::prepare_boot(const model::plan& plan, const model::system_ptr& before,
                                const std::string& reserved, const reply& to) {
  auto boots = autostart_after(plan.what);
  if (!boots)
    return make_durable(plan, before, reserved, to);
  auto what = work(task::start_at_boot);
  what.flag = *boots;
  auto limit = deadline_of_job(what);
  timed_request(self, world_, world_->driver, limit, std::move(what))
      .then([this, plan, before, reserved,
             to](const report&) { make_durable(plan, before, reserved, to); },
            [this, plan, reserved, to](const caf::error& why) {
              not_committed(plan, reserved, from_caf(why), to);
            });
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

void domain_state::make_durable(const model::plan& plan, const model::system_ptr& before,
                                const std::string& reserved, const reply& to) {
  timed_request(self, world_, world_->store, world_->settings.commit, plan.what)
      .then(
          [this, plan, before, reserved, to](const model::system_ptr&) {
            moving_network_ = false;
            if (!reserved.empty())
              leave(std::exchange(member_of_, reserved));
            committed(plan, before, to);
          },
          [this, plan, reserved, to](const caf::error& why) {
            auto reason = from_caf(why);
            auto boots = autostart_after(plan.what);
            if (boots && reason.code != errc::timed_out) // it may yet become a fact
              start_at_boot(self, world_, who_, !*boots);
            not_committed(plan, reserved, reason, to);
          });
}

void domain_state::not_committed(const model::plan& plan, const std::string& reserved,
                                 const model::error& why, const reply& to) {
  leave(reserved);
  self->send(world_->events, plan.before);
  to.refuse(why);
  if (std::exchange(moving_network_, false))
    sync_network(); // it stays where it was
  change_ended();
}

void domain_state::change_ended() {
  changing_ = false;
  if (!catching_up_)
    tell_devices_changed();
  for (auto& x : std::exchange(starts_after_change_, {}))
    start(x);
  next_wish();
}

/// Effects follow facts: the change is durable, now the world is brought in line with it.
void domain_state::committed(const model::plan& done, const model::system_ptr& before,
                             const reply& to) {
  if (buried(done, before, to))
    return;
  auto finish = [this, done, to] {
    self->send(world_->events, done.after);
    to.ok();
    change_ended();
  };
  self->send(world_->events, done.before);
  tell_menus(self, world_, before, done.what, done.after);
  move_sound(before, done.what);
  if (std::ranges::any_of(done.what.edits,
                          [](auto& x) { return std::holds_alternative<model::set_devices>(x); }))
    withdraw_claims();
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
    if ((netvm_changed || entries_name_.empty()) && facts_.xid >= 0 && !start_)
      sync_network(finish);
    else
      finish();
  });
}

/// The memory manager reads there how much memory it may give.
void domain_state::tell_ceiling(const model::domain& me) {
  auto what = work(task::announce);
  what.pairs = model::ceiling_entries(look().view(), me, facts_.xid);
  if (!what.pairs.empty())
    run(
        std::move(what), [](const report&) {},
        [this](const model::error& why) {
          note(spdlog::level::warn, "its new maxmem counts from the next start: {}", why.text);
        });
}

} // namespace qubes::actors
