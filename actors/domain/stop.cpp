#include "actors/domain/stop.hpp"

#include "actors/domain/domain.hpp"
#include "model/change/preload.hpp"
#include "model/property/default_rules.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"
#include "model/start/start_outlook.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::power;

namespace {

model::error powered_off(const std::string& who) {
  return {errc::vm_not_started, fmt::format("'{}' is powered off", who), {}};
}

void answer_with(const reply& to, const model::outcome<void>& how) {
  if (how)
    to.ok();
  else
    to.refuse(how.error());
}

} // namespace

// -- shutdown ------------------------------------------------------------------------------------

void domain_stop::carry_out(const ask::shutdown& x, const reply& to) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me || !me->is(model::qubes_vm))
    return to.refuse(
        {errc::vm_error, fmt::format("'{}' cannot be shut down from here", domain_.who()), {}});
  if (stopping_ && x.wait)
    return wait_for(waits_as::late_shutdown, to);
  if (domain_.facts().state == power::halted || stopping_)
    return to.refuse(powered_off(domain_.who()));
  if (domain_.start.is_before_guest())
    return end_start(x.wait, to);
  domain_.tell("domain-pre-shutdown", {{"force", x.force ? "True" : "False"}});
  auto clients = domain_.supervisor();
  if (!clients)
    return shut_down_unless_used(x, to);
  timed_request(domain_.self, domain_.world(), clients, domain_.world()->settings.host_call,
                close_netvm{x.force})
      .then(
          [this, x, to, life = domain_.life()] {
            if (life == domain_.life())
              shut_down_unless_used(x, to);
            else if (x.wait && stopping_)
              wait_for(waits_as::late_shutdown, to);
            else
              to.refuse(powered_off(domain_.who()));
          },
          [this, to, life = domain_.life()](const caf::error& why) {
            if (life == domain_.life())
              shutdown_failed(from_caf(why), to);
            else
              to.refuse(powered_off(domain_.who()));
          });
}

/// There is no guest that could be asked, nor a domain that uses it.
void domain_stop::end_start(bool wait, const reply& to) {
  wait ? wait_for(waits_as::kill, to) : to.ok();
  take_down("shut down");
}

/// Domains whose windows this one shows or whose sound it plays keep it running, unless forced.
void domain_stop::shut_down_unless_used(const ask::shutdown& x, const reply& to) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me || x.force)
    return ask_guest_to_halt(x.wait, to);
  if (auto allowed = model::check_shutdown(now.view(), *me, domain_.facts().state); !allowed)
    return shutdown_failed(allowed.error(), to);
  ask_guest_to_halt(x.wait, to);
}

void domain_stop::shutdown_failed(const model::error& why, const reply& to) {
  failed("shutdown", why);
  stays_up(why, to);
}

/// The request closed its netvm actor, which lets clients in again.
void domain_stop::stays_up(const model::error& why, const reply& to) {
  domain_.tell("domain-shutdown-failed", {{"reason", why.text}});
  if (auto clients = domain_.supervisor(); clients && !domain_.facts().going_down)
    domain_.self->send(clients, atom::open_v);
  to.refuse(why);
}

void domain_stop::ask_guest_to_halt(bool wait, const reply& to) {
  if (!run_)
    begin("shutdown");
  if (domain_.facts().state == power::paused) { // a paused guest hears nothing
    waiters_.add(waits_as::kill,
                 [this, to](const auto& how) { how ? to.ok() : stays_up(how.error(), to); });
    return take_down();
  }
  auto patience = [this] {
    auto now = domain_.look();
    auto* me = domain_.record(now);
    return std::chrono::seconds{std::clamp<std::int64_t>(
        me ? model::read_int({now.view(), me}, "shutdown_timeout") : 60, 1, 86400)};
  }();
  auto patient = wait ? to : discarded_reply();
  auto waiter = waiters_.add(waits_as::shutdown, [this, patient](const auto& how) {
    if (how)
      patient.ok();
    else
      shutdown_failed(how.error(), patient);
  });
  domain_.self->delayed_send(domain_.self, patience, atom::overdue_v, waiter);
  note_asked();
  auto asked = [wait, to] {
    if (!wait)
      to.ok();
  };
  domain_.run(
      domain_.work(job::shut_down_guest{}),
      [this, asked] {
        domain_.recover({domain_core::trouble::shutdown});
        asked();
      },
      [this, to, waiter, asked](const model::error& why) {
        if (domain_.facts().xid < 0) // the guest is gone: the end of the life answers
          return asked();
        if (why.code == errc::vm_not_started) { // the guest is gone, the news on its way
          heard_of();
          return asked();
        }
        if (why.code == errc::timed_out)
          domain_.degrade(domain_core::trouble::shutdown, "it does not answer a shutdown request");
        auto reason = model::error{
            errc::vm_shutdown_timeout,
            fmt::format("'{}' could not be asked to shut down: {}", domain_.who(), why.text),
            "kill it if it hangs"};
        if (waiters_.take(waiter))
          not_asked([this, to](const auto& how) { shutdown_failed(how.error(), to); }, reason);
        else
          to.refuse(reason); // the deadline has passed, and said so
      },
      asked);
}

/// The domain stays running until the guest acts; its status tells of the request.
void domain_stop::note_asked() {
  auto asked = domain_.facts().xid >= 0 && waiters_.any(waits_as::shutdown);
  if (domain_.facts().going_down == asked)
    return;
  domain_.is_asked_to_halt(asked);
  domain_.publish_facts();
  if (domain_.start.is_under_way())
    return;
  if (asked)
    domain_.does("shutdown", "guest");
  else
    domain_.does_nothing();
}

/// One request less to shut down. After the last one the domain stays.
void domain_stop::not_asked(const stop_waiters::told& who, const model::error& why) {
  note_asked();
  auto how = model::outcome<void>{tl::unexpected{why}};
  who(how);
  if (waiters_.any(waits_as::shutdown))
    return;
  if (!destroying_ && !stopping_)
    run_.reset();
  waiters_.end(stop_end::stays, how);
}

/// Only requests to shut down get here.
void domain_stop::deadline_passed(std::uint64_t waiter) {
  if (auto told = waiters_.take(waiter))
    not_asked(told, {errc::vm_shutdown_timeout,
                     fmt::format("'{}' did not shut down in time", domain_.who()),
                     "give it more time with its shutdown_timeout, or kill it"});
}

void domain_stop::wait_for(waits_as how, const reply& to) {
  waiters_.add(how, [to](const auto& end) { answer_with(to, end); });
}

/// When the domain stays, the answer is that it runs, or why it cannot.
void domain_stop::start_after(const reply& to) {
  waiters_.add(waits_as::start, [this, to](const model::outcome<void>& end) {
    auto in_ruins = domain_.facts().state == power::crashed || (domain_.start.waits_with_undo());
    if (!end && in_ruins)
      to.refuse(end.error());
    else
      domain_.start.begin(to);
  });
}

// -- operations that are remembered --------------------------------------------------------------

void domain_stop::begin(std::string_view what) {
  run_ = domain_.operations.begin(what);
}

void domain_stop::failed(std::string_view what, const model::error& why) {
  if (!model::is_only_refused(why.code))
    domain_.operations.remember(run_.value_or(domain_.operations.begin(what)),
                                model::failure_of(why));
}

/// A guest that crashed is down as well, and no request wanted that.
void domain_stop::remember() {
  if (!run_)
    return;
  auto run = *std::exchange(run_, std::nullopt);
  run.end_step("volumes", domain_.world()->now_us());
  auto why = model::operation_failure{};
  if (auto left = domain_.reason(domain_core::trouble::volumes))
    why =
        model::failure_of({errc::storage, *left, "the next stop or daemon tries again"}, "volumes");
  else if (run.what == "crash")
    why =
        model::failure_of({errc::vm_error, fmt::format("the guest of '{}' crashed", domain_.who()),
                           "its console's log may say why"});
  domain_.operations.remember(run, std::move(why));
}

// -- kill ----------------------------------------------------------------------------------------

void domain_stop::carry_out(const ask::kill&, const reply& to) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me || !me->is(model::qubes_vm))
    return to.refuse(
        {errc::vm_error, fmt::format("'{}' cannot be killed from here", domain_.who()), {}});
  if (domain_.facts().state == power::halted)
    return to.refuse(powered_off(domain_.who()));
  wait_for(waits_as::kill, to);
  if (!domain_.start.is_under_way() && !stopping_)
    begin("kill");
  take_down();
}

void domain_stop::take_down(std::string_view how) {
  if (stopping_)
    return;
  if (domain_.start.is_under_way()) {
    if (domain_.start.goes_on())
      domain_.start.abort(
          {errc::general, fmt::format("'{}' was {} while it started", domain_.who(), how), {}});
    else if (domain_.start.waits_with_undo())
      domain_.start.undo_create();
    return;
  }
  destroy();
}

void domain_stop::destroy() {
  if (std::exchange(destroying_, true))
    return;
  domain_.run(
      domain_.work(job::kill_guest{}), [this] { stopped(); },
      [this](const model::error& why) {
        if (why.code == errc::vm_not_started) // the guest went down by itself
          return stopped();
        destroying_ = false;
        failed("kill", why);
        run_.reset();
        domain_.degrade(domain_core::trouble::kill,
                        fmt::format("it could not be killed: {}", why.text));
        waiters_.end(stop_end::not_killed, tl::unexpected{why});
      });
}

// -- the stop ------------------------------------------------------------------------------------

void domain_stop::heard_of() {
  if (domain_.facts().xid < 0 || destroying_ || (domain_.start.is_failing()))
    return;
  domain_.run(
      domain_.work(job::inspect_guest{}),
      [this](const model::guest& truth) {
        if (truth.state == power::dying) {
          constexpr auto again = std::chrono::milliseconds{250}; // spec/lifecycle.md §5.2
          domain_.self->delayed_send(
              domain_.self, again,
              news{domain_.who(), domain_.uuid(), model::guest_event::stopped});
        } else if (truth.state == power::halted || truth.state == power::crashed) {
          if (domain_.start.is_under_way())
            domain_.start.abort(
                {errc::general, fmt::format("'{}' stopped while it started", domain_.who()), {}});
          else if (truth.state == power::crashed)
            crashed();
          else
            stopped();
        }
      },
      [this](const model::error& why) { domain_.guest.look_later(why); });
}

/// The domain counts as crashed until it is taken down.
void domain_stop::crashed() {
  domain_.move(power::crashed);
  begin("crash");
  destroy();
}

/// Once per life: tells of its end, stops its volumes, frees what belonged to it, answers the
/// requests that waited.
void domain_stop::stopped() {
  if (domain_.facts().xid < 0)
    return;
  domain_.tell("domain-stopped");
  caf::anon_send(domain_.world()->driver, driver_job{domain_.work(job::close_tools{})});
  domain_.lose_guest();
  destroying_ = false;
  domain_.network.link().turn([](auto& x) { x.guest_gone(); });
  domain_.tell_runtime_reset();
  if (domain_.start.is_under_way()) { // the start's unwinding goes on
    run_.reset();
    tell_end();
    return;
  }
  domain_.end_life();
  domain_.firewall.life_ended();
  if (!run_)
    begin("stop");
  run_->end_step("guest", domain_.world()->now_us());
  stopping_ = true;
  if (can_move(domain_.facts().state, power::dying))
    domain_.move(power::dying);
  domain_.changes.needs_no_netvm();
  if (domain_.is_of_record())
    domain_.does("shutdown", "volumes");
  stop_volumes([this] { finish(); });
}

void domain_stop::resume() {
  stopping_ = true;
  domain_.publish_facts();
  stop_volumes([this] { finish(); });
}

void domain_stop::stop_volumes(std::function<void()> then) {
  auto disks = domain_.my_disks();
  if (!disks)
    return then();
  ask_storage(domain_.self, domain_.world(), std::move(*disks), disk_job::stop_disks{})
      .then(
          [this, then] {
            domain_.recover({domain_core::trouble::volumes});
            then();
          },
          [this, then](const caf::error& x) {
            domain_.degrade(
                domain_core::trouble::volumes,
                fmt::format("its volumes could not be stopped: {}", from_caf(x).message()));
            then();
          });
}

void domain_stop::finish() {
  domain_.pause.forget_deferred([this] { halted(); });
}

void domain_stop::halted() {
  stopping_ = false;
  if (domain_.facts().state != power::halted)
    domain_.move(power::halted);
  remember();
  tell_end();
  domain_.network.link().turn([](auto& x) { x.ends(); });
  domain_.does_nothing();
  waiters_.end(stop_end::down, {});
  if (std::exchange(look_at_end_, false))
    domain_.guest.look_again();
  tell_disposables();
  domain_.removal.clean_up();
}

/// The domain has been down: what waits ready may be of yesterday, or one fewer.
void domain_stop::tell_disposables() {
  auto now = domain_.look();
  auto v = now.view();
  auto* me = domain_.record(now);
  if (!me)
    return;
  if (model::is_preload(v, *me))
    domain_.self->send(domain_.world()->disposables, atom::review_v,
                       model::template_of(v, *me)->name.str());
  if (!model::preloaded(*me).empty())
    domain_.self->send(domain_.world()->disposables, atom::outdated_v, domain_.who());
  if (me->is(model::template_class))
    for (auto* x : model::based_on(v, *me))
      if (!model::preloaded(*x).empty())
        domain_.self->send(domain_.world()->disposables, atom::outdated_v, x->name.str());
}

void domain_stop::tell_end() {
  domain_.recover({domain_core::trouble::start, domain_core::trouble::shutdown,
                   domain_core::trouble::kill, domain_core::trouble::network});
  domain_.guest.forget_pause();
  domain_.network.forget_pause();
  domain_.entries.forget_pause();
  domain_.devices.forget_pause();
  domain_.tell("domain-shutdown");
  domain_.devices.forget_offers();
  domain_.devices.drop_attachments();
  if (auto clients = domain_.supervisor())
    domain_.self->send(clients, provider_fell{});
}

} // namespace qubes::actors
