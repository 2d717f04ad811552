#include "actors/domain/record.hpp"

#include "actors/common/commit.hpp"
#include "actors/common/guest_notification.hpp"
#include "actors/domain/domain.hpp"
#include "model/change/change.hpp"
#include "model/guest/qubesdb.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::power;

void domain_record::change(domain_core::planner what, const reply& to) {
  pending_.push_back({std::move(what), to});
  if (!changing_)
    next();
}

void domain_record::next() {
  while (!changing_ && !pending_.empty()) {
    auto x = std::move(pending_.front());
    pending_.pop_front();
    attempt(x);
  }
}

void domain_record::attempt(const pending_change& x) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return x.to.refuse(model::no_such_domain(domain_.who()));
  auto plan = with_consequences(now.view(), x.what(now.view(), *me));
  if (plan.refusal) {
    domain_.self->send(domain_.world()->events, std::move(plan.before));
    return x.to.refuse(*plan.refusal);
  }
  if (plan.what.empty()) { // nothing durable: a reset of a computed value
    tell_menus(domain_.self, domain_.world(), now.system, plan.what, plan.after);
    domain_.self->send(domain_.world()->events, std::move(plan.before));
    domain_.self->send(domain_.world()->events, std::move(plan.after));
    return x.to.ok();
  }
  if (model::touches(plan.what, "netvm") && network_must_be_known())
    return learn_network(x);
  auto netvm = netvm_after(now, plan.what);
  if (netvm && !domain_.network.link().now().netvms().contains(*netvm))
    return reserve(x, *netvm);
  commit({plan, now.system, x.reserved, x.to});
}

/// What a guest is connected to cannot be taken away before it is known.
bool domain_record::network_must_be_known() const {
  return domain_.network.is_unknown() && domain_.facts().state == power::running
         && !domain_.start.is_under_way();
}

void domain_record::learn_network(const pending_change& x) {
  changing_ = true;
  domain_.network.sync([this, x] {
    changing_ = false;
    if (network_must_be_known())
      x.to.refuse(
          {errc::hypervisor,
           fmt::format("the hypervisor does not tell what '{}' is connected to", domain_.who()),
           "try again, or shut it down first"});
    else
      attempt(x);
    if (!changing_)
      ended();
  });
}

/// The netvm that this change gives a live domain; nothing when it does not touch it.
std::optional<std::string> domain_record::netvm_after(const snapshot& now,
                                                      const model::change& what) const {
  if (!lives() || !model::touches(what, "netvm"))
    return std::nullopt;
  auto after = model::apply(*now.system, *now.machine, what);
  if (!after)
    return std::nullopt;
  auto v = model::view{*after, domain_.world()->board, *now.machine};
  auto* netvm = model::read_domain({v, after->find(domain_.who())}, "netvm");
  return netvm ? std::optional{netvm->name.str()} : std::nullopt;
}

/// A netvm must know of its new client before the change is made, or it might stop in between.
void domain_record::reserve(pending_change x, const std::string& netvm) {
  changing_ = true;
  x.reserved = domain_.network.link().reserve(netvm);
  waits_for_netvm_ = std::move(x);
  auto waits = [this, number = ++reservations_] { return number == reservations_; };
  domain_.network.link().ask(
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
        ended();
      });
}

/// The netvm is up, or there is no life any more that could be connected to it.
void domain_record::netvm_was_waited_for() {
  ++reservations_;
  auto x = *std::exchange(waits_for_netvm_, std::nullopt);
  changing_ = false;
  attempt(x);
  if (!changing_)
    ended();
}

void domain_record::needs_no_netvm() {
  if (!waits_for_netvm_)
    return;
  waits_for_netvm_->reserved = {};
  netvm_was_waited_for();
}

bool domain_record::lives() const {
  return domain_.facts().state != power::halted && !domain_.stop.is_stopping_volumes()
         && !domain_.start.is_failing();
}

void domain_record::commit(const commitment& x) {
  changing_ = true;
  auto hears_of_it_later = domain_.facts().state == power::paused && chooses_netvm(x.plan.what);
  if (hears_of_it_later)
    domain_.network.link().turn([](auto& link) { link.guest_must_be_told(); });
  if (moves_network(domain_.look(), x.plan.what))
    unplug_before(x);
  else
    prepare_boot(x);
}

/// Also the same netvm: a client that sets it again wants a new connection.
bool domain_record::chooses_netvm(const model::change& what) const {
  return std::ranges::any_of(what.edits, [&](auto& x) {
    auto* set = std::get_if<model::set_property>(&x);
    return set && set->owner == domain_.who() && set->name == "netvm";
  });
}

/// Whether this change takes a running guest off its netvm.
bool domain_record::moves_network(const snapshot& now, const model::change& what) const {
  if (domain_.facts().state != power::running || domain_.start.is_under_way())
    return false;
  auto& link = domain_.network.link().now();
  return link.state() == model::uplink_state::plugged
         && (chooses_netvm(what)
             || (model::touches(what, "netvm")
                 && netvm_after(now, what) != link.interface()->netvm));
}

/// Off the former netvm before the change is made: a client that is told that a domain is offline
/// must be able to believe it. What cannot be taken away is a refusal, as in the stock daemon.
void domain_record::unplug_before(const commitment& x) {
  domain_.network.link().turn([](auto& link) { link.hold(); });
  auto go_on = [this, x] {
    domain_.network.link().turn([](auto& link) { link.guest_must_be_told(); }); // also the same one
    prepare_boot(x);
  };
  domain_.network.sync([this, x, go_on] {
    if (!domain_.network.link().now().interface() || domain_.facts().state != power::running)
      return go_on();
    domain_.network.detach_interface([this, x, go_on](const model::outcome<void>& done) {
      if (done)
        return go_on();
      auto* link = domain_.network.link().now().interface();
      not_committed(x, {done.error().code,
                        fmt::format("'{}' could not be disconnected from its netvm '{}': {}",
                                    domain_.who(), link ? link->netvm : "", done.error().text),
                        "try again, or shut it down first"});
    });
  });
}

/// The host's boot is prepared before the change is made: what cannot be done is not acknowledged.
void domain_record::prepare_boot(const commitment& x) {
  auto boots = autostart_after(x.plan.what);
  if (!boots)
    return make_durable(x);
  ask_driver(domain_.self, domain_.world(), domain_.work(job::start_at_boot{*boots}))
      .then([this, x] { make_durable(x); },
            [this, x](const caf::error& why) { not_committed(x, from_caf(why)); });
}

/// Whether the domain starts with the host after this change; nothing when that stays as it is.
std::optional<bool> domain_record::autostart_after(const model::change& what) const {
  if (!model::touches(what, "autostart"))
    return std::nullopt;
  auto now = domain_.look();
  auto after = model::apply(*now.system, *now.machine, what);
  auto starts = [&](const model::system& x) {
    return model::read_bool({{x, domain_.world()->board, *now.machine}, x.find(domain_.who())},
                            "autostart");
  };
  if (!after || !after->find(domain_.who()) || starts(*after) == starts(*now.system))
    return std::nullopt;
  return starts(*after);
}

void domain_record::make_durable(const commitment& x) {
  domain_.removal.note(x.plan, [this, x] { write(x); });
}

void domain_record::write(const commitment& x) {
  actors::commit(
      domain_.self, domain_.world(), x.plan.what, x.to,
      [this, x](const model::system_ptr&) {
        domain_.network.link().turn([this](auto& link) {
          link.let_go();
          link.wants(domain_.network.netvm_in_record());
        });
        committed(x.plan, x.before, x.to);
      },
      [this, x](const caf::error& why) {
        if (auto boots = autostart_after(x.plan.what))
          start_at_boot(domain_.self, domain_.world(), domain_.who(), !*boots);
        domain_.removal.forget(x.plan);
        not_committed(x, from_caf(why));
      });
}

void domain_record::not_committed(const commitment& x, const model::error& why) {
  domain_.self->send(domain_.world()->events, x.plan.before);
  x.to.refuse(why);
  auto held = false;
  domain_.network.link().turn([&](auto& link) { held = link.let_go(); });
  if (held)
    domain_.network.sync(); // the interface stays where it was
  ended();
}

void domain_record::ended() {
  changing_ = false;
  if (!domain_.pause.is_catching_up())
    domain_.devices.tell_changed();
  auto starts = std::exchange(starts_, {});
  if (!starts.empty())
    domain_.does_nothing();
  for (auto& x : starts)
    domain_.start.begin(x);
  next();
  domain_.removal.go_on();
}

/// Effects follow facts: the change is durable, now the world is brought in line with it.
void domain_record::committed(const model::plan& done, const model::system_ptr& before,
                              const reply& to) {
  if (domain_.removal.is_planned_by(done))
    return domain_.removal.begin(done, before, to);
  auto finish = [this, done, to] {
    domain_.self->send(domain_.world()->events, done.after);
    to.ok();
    ended();
  };
  domain_.self->send(domain_.world()->events, done.before);
  tell_menus(domain_.self, domain_.world(), before, done.what, done.after);
  domain_.devices.move_sound(before, done.what);
  if (std::ranges::any_of(done.what.edits,
                          [](auto& x) { return std::holds_alternative<model::set_devices>(x); }))
    domain_.devices.withdraw_questions();
  tell_change(domain_.self, domain_.world(), before, done.what, domain_.who(),
              [this, before, finish] { follow(before, finish); });
}

/// After a change: the memory ceiling of the domain, its network, and that of its clients.
void domain_record::follow(const model::system_ptr& before, const std::function<void()>& finish) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto* former = before->find(domain_.who());
  if (!me || !former || !me->is(model::qubes_vm))
    return finish();
  auto v = now.view();
  auto v_before = model::view{*before, domain_.world()->board, *now.machine};
  if (domain_.facts().xid > 0
      && model::read_int({v, me}, "maxmem") != model::read_int({v_before, former}, "maxmem"))
    tell_ceiling(*me);
  auto netvm_changed =
      model::read_text({v, me}, "netvm") != model::read_text({v_before, former}, "netvm");
  supervise_clients([this, finish, netvm_changed] {
    if ((netvm_changed || domain_.network.link().now().guest_knows_none())
        && domain_.facts().xid >= 0 && !domain_.start.is_under_way())
      domain_.network.sync(finish);
    else
      finish();
  });
}

/// A domain that provides network has a supervisor for its clients; the registry keeps them.
void domain_record::supervise_clients(const std::function<void()>& then) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto provides = me && model::provides_network(now.view(), *me);
  if (provides == static_cast<bool>(domain_.supervisor()))
    return then();
  timed_request(domain_.self, domain_.world(), domain_.world()->registry,
                domain_.world()->settings.host_call, atom::align_v, domain_.who())
      .then(
          [this, then] {
            if (auto clients = domain_.supervisor();
                clients && domain_.facts().state == power::running)
              domain_.self->send(clients, provider_up{netvm_life::known});
            then();
          },
          [this, then](const caf::error& why) {
            domain_.note(spdlog::level::err, "no supervisor for its clients: {}",
                         from_caf(why).text);
            then();
          });
}

/// The memory manager reads there how much memory it may give.
void domain_record::tell_ceiling(const model::domain& me) {
  auto entries = model::ceiling_entries(domain_.look().view(), me, domain_.facts().xid);
  if (!entries.empty())
    domain_.run(
        domain_.work(job::write_xenstore{std::move(entries)}), [] {},
        [this](const model::error& why) {
          domain_.note(spdlog::level::warn, "its new maxmem counts from the next start: {}",
                       why.text);
        });
}

} // namespace qubes::actors
