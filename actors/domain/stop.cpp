// Taking a domain down, and what follows when it is down (spec/lifecycle.md §3-§5).
#include "actors/domain/domain.hpp"
#include "model/guest/extension.hpp"
#include "model/property/default_rules.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"

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

void domain_state::carry_out(const ask::shutdown& x, const reply& to) {
  auto now = look();
  auto* me = record(now);
  if (!me || !me->is(model::qubes_vm))
    return to.refuse({errc::vm_error, fmt::format("'{}' cannot be shut down from here", who_), {}});
  if (stopping_ && x.wait)
    return wait_for_stop(waits_as::rider, to);
  if (facts_.state == power::halted || stopping_)
    return to.refuse(powered_off(who_));
  if (before_guest())
    return to.refuse({errc::vm_not_running, fmt::format("'{}' is still starting", who_),
                      "wait for it, or kill it"});
  tell("domain-pre-shutdown", {{"force", x.force ? "True" : "False"}});
  auto clients = supervisor();
  if (!clients)
    return shut_down_unless_used(x, to);
  timed_request(self, world_, clients, world_->settings.host_call, atom::close_v, x.force)
      .then(
          [this, x, to, life = life_] {
            if (life == life_)
              shut_down_unless_used(x, to);
            else if (x.wait && stopping_)
              wait_for_stop(waits_as::rider, to);
            else
              to.refuse(powered_off(who_));
          },
          [this, to, life = life_](const caf::error& why) {
            if (life == life_)
              shutdown_failed(from_caf(why), to);
            else
              to.refuse(powered_off(who_));
          });
}

/// Domains whose windows it shows or whose sound it plays keep it running, unless forced. Who uses
/// it is said before that it is paused, which only those may be that nobody has used yet.
void domain_state::shut_down_unless_used(const ask::shutdown& x, const reply& to) {
  auto now = look();
  auto* me = record(now);
  if (!me || x.force)
    return ask_guest_to_halt(x.wait, to);
  if (auto allowed = model::allow_stop(now.view(), *me); !allowed)
    return shutdown_failed(allowed.error(), to);
  if (facts_.state == power::paused && !model::is_preload(now.view(), *me))
    return shutdown_failed({errc::vm_not_running, fmt::format("'{}' is paused", who_),
                            "unpause it first, or force the shutdown, which destroys it"},
                           to);
  ask_guest_to_halt(x.wait, to);
}

void domain_state::shutdown_failed(const model::error& why, const reply& to) {
  stop_failed("shutdown", why);
  tell("domain-shutdown-failed", {{"reason", why.text}});
  if (auto clients = supervisor(); clients && !facts_.going_down)
    self->send(clients, atom::open_v);
  to.refuse(why);
}

void domain_state::ask_guest_to_halt(bool wait, const reply& to) {
  if (!stop_)
    begin_stop("shutdown");
  if (facts_.state == power::paused) { // a paused guest hears nothing
    wait_for_stop(waits_as::kill, to);
    return take_down();
  }
  auto patience = [this] {
    auto now = look();
    auto* me = record(now);
    return std::chrono::seconds{std::clamp<std::int64_t>(
        me ? model::read_int({now.view(), me}, "shutdown_timeout") : 60, 1, 86400)};
  }();
  auto patient = wait ? to : to_nobody();
  auto waiter = stop_waiters_.add(waits_as::shutdown, [this, patient](const auto& how) {
    if (how)
      patient.ok();
    else
      shutdown_failed(how.error(), patient);
  });
  self->delayed_send(self, patience, atom::overdue_v, waiter);
  note_asked();
  auto asked = [wait, to] {
    if (!wait)
      to.ok();
  };
  run(
      work(job::shut_down_guest{}),
      [this, asked] {
        recover({trouble::shutdown});
        asked();
      },
      [this, to, waiter, asked](const model::error& why) {
        if (facts_.xid < 0) // its guest is gone: the end of its life answers
          return asked();
        if (why.code == errc::timed_out)
          degrade(trouble::shutdown, "it does not answer a shutdown request");
        auto reason =
            model::error{errc::vm_shutdown_timeout,
                         fmt::format("'{}' could not be asked to shut down: {}", who_, why.text),
                         "kill it if it hangs"};
        if (stop_waiters_.take(waiter))
          not_asked([this, to](const auto& how) { shutdown_failed(how.error(), to); }, reason);
        else
          to.refuse(reason); // its deadline has passed, and said so
      },
      asked);
}

/// It runs until the guest acts, and says so.
void domain_state::note_asked() {
  auto asked = facts_.xid >= 0 && stop_waiters_.any(waits_as::shutdown);
  if (facts_.going_down == asked)
    return;
  facts_.going_down = asked;
  publish_facts();
  if (start_)
    return;
  if (asked)
    world_->status.begin(who_, "shutdown", "guest", world_->now_us());
  else
    world_->status.finish(who_);
}

/// One request less to shut down. After the last one it stays.
void domain_state::not_asked(const stop_waiters::told& who, const model::error& why) {
  note_asked();
  auto how = model::outcome<void>{tl::unexpected{why}};
  who(how);
  if (stop_waiters_.any(waits_as::shutdown))
    return;
  if (!destroying_ && !stopping_)
    stop_.reset();
  stop_waiters_.end(stop_end::stays, how);
}

/// Only requests to shut down get here.
void domain_state::deadline_passed(std::uint64_t waiter) {
  if (auto told = stop_waiters_.take(waiter))
    not_asked(told, {errc::vm_shutdown_timeout, fmt::format("'{}' did not shut down in time", who_),
                     "give it more time with its shutdown_timeout, or kill it"});
}

void domain_state::wait_for_stop(waits_as how, const reply& to) {
  stop_waiters_.add(how, [to](const auto& end) { answer_with(to, end); });
}

/// Down first, then up again; when it stays, that it runs is the answer, or why it cannot.
void domain_state::start_after_stop(const reply& to) {
  stop_waiters_.add(waits_as::start, [this, to](const model::outcome<void>& end) {
    auto in_ruins = facts_.state == power::crashed || (start_ && start_->undo_waits);
    if (!end && in_ruins)
      to.refuse(end.error());
    else
      start(to);
  });
}

// -- what is remembered of it --------------------------------------------------------------------

void domain_state::begin_stop(std::string_view what) {
  stop_ = operations_.begin(what);
}

void domain_state::stop_failed(std::string_view what, const model::error& why) {
  if (!model::is_only_refused(why.code))
    operations_.remember(stop_.value_or(operations_.begin(what)), model::failure_of(why));
}

/// A guest that crashed is down as well, and nobody wanted that.
void domain_state::stop_ended() {
  if (!stop_)
    return;
  auto run = *std::exchange(stop_, std::nullopt);
  run.end_step("volumes", world_->now_us());
  auto why = model::operation_failure{};
  if (auto left = troubles_.find(trouble::volumes); left != troubles_.end())
    why = model::failure_of({errc::storage, left->second, "the next stop or daemon tries again"},
                            "volumes");
  else if (run.what == "crash")
    why = model::failure_of({errc::vm_error, fmt::format("the guest of '{}' crashed", who_),
                             "its console's log may say why"});
  operations_.remember(run, std::move(why));
}

// -- kill ----------------------------------------------------------------------------------------

void domain_state::carry_out(const ask::kill&, const reply& to) {
  auto now = look();
  auto* me = record(now);
  if (!me || !me->is(model::qubes_vm))
    return to.refuse({errc::vm_error, fmt::format("'{}' cannot be killed from here", who_), {}});
  if (facts_.state == power::halted)
    return to.refuse(powered_off(who_));
  wait_for_stop(waits_as::kill, to);
  if (!start_ && !stopping_)
    begin_stop("kill");
  take_down();
}

void domain_state::take_down() {
  if (stopping_)
    return;
  if (start_) {
    if (!start_->failed)
      abort_start({errc::general, fmt::format("'{}' was killed while it started", who_), {}});
    else if (start_->undo_waits)
      undo_create();
    return;
  }
  destroy();
}

void domain_state::destroy() {
  if (std::exchange(destroying_, true))
    return;
  run(
      work(job::kill_guest{}), [this] { stopped(); },
      [this](const model::error& why) {
        if (why.code == errc::vm_not_started) // it went down by itself
          return stopped();
        destroying_ = false;
        stop_failed("kill", why);
        stop_.reset();
        degrade(trouble::kill, fmt::format("it could not be killed: {}", why.text));
        stop_waiters_.end(stop_end::not_killed, tl::unexpected{why});
      });
}

// -- the stop ------------------------------------------------------------------------------------

/// News of a stop may be late, from an earlier life, or doubled: the hypervisor has the last word.
void domain_state::heard_stop() {
  if (facts_.xid < 0 || destroying_ || (start_ && start_->failed))
    return;
  run(
      work(job::inspect_guest{}),
      [this](const model::guest& truth) {
        if (truth.state == power::dying) {
          constexpr auto again = std::chrono::milliseconds{250}; // spec/lifecycle.md §5.2
          self->delayed_send(self, again, news{who_, uuid_, model::guest_event::stopped});
        } else if (truth.state == power::halted || truth.state == power::crashed) {
          if (start_)
            abort_start({errc::general, fmt::format("'{}' stopped while it started", who_), {}});
          else if (truth.state == power::crashed)
            crashed();
          else
            stopped();
        }
      },
      [this](const model::error& why) {
        note(spdlog::level::warn, "cannot tell whether it stopped: {}", why.text);
      });
}

/// Until it is taken down it is what it is.
void domain_state::crashed() {
  move(power::crashed);
  begin_stop("crash");
  destroy();
}

/// Once per life: tells of it, stops its volumes, frees what belonged to it, answers who waited.
void domain_state::stopped() {
  if (facts_.xid < 0)
    return;
  tell("domain-stopped");
  caf::anon_send(world_->driver, driver_job{work(job::close_tools{})});
  facts_ = model::live{.state = facts_.state, .degraded = facts_.degraded};
  destroying_ = false;
  network_.link().turn([](auto& x) { x.guest_gone(); });
  tell_runtime_reset();
  if (start_) { // its unwinding goes on
    stop_.reset();
    tell_end();
    return;
  }
  ++life_;
  if (!stop_)
    begin_stop("stop");
  stop_->end_step("guest", world_->now_us());
  stopping_ = true;
  if (can_move(facts_.state, power::dying))
    move(power::dying);
  needs_no_netvm();
  if (is_of_record())
    world_->status.begin(who_, "shutdown", "volumes", world_->now_us());
  stop_volumes([this] { finish_stop(); });
}

/// All are stopped, or it is known which could not be.
void domain_state::stop_volumes(std::function<void()> then) {
  auto disks = my_disks();
  if (!disks)
    return then();
  ask_storage(self, world_, std::move(*disks), disk_job::stop_disks{})
      .then(
          [this, then] {
            recover({trouble::volumes});
            then();
          },
          [this, then](const caf::error& x) {
            degrade(trouble::volumes,
                    fmt::format("its volumes could not be stopped: {}", from_caf(x).message()));
            then();
          });
}

void domain_state::finish_stop() {
  forget_deferred([this] { stop_is_over(); });
}

void domain_state::stop_is_over() {
  stopping_ = false;
  if (facts_.state != power::halted)
    move(power::halted);
  stop_ended();
  tell_end();
  network_.link().turn([](auto& x) { x.ends(); });
  world_->status.finish(who_);
  stop_waiters_.end(stop_end::down, {});
  if (std::exchange(look_after_stop_, false))
    look_again();
  tell_disposables();
  clean_up();
}

void domain_state::tell_end() {
  recover({trouble::start, trouble::shutdown, trouble::kill, trouble::network});
  network_.forget_pause();
  entries_.forget_pause();
  devices_.forget_pause();
  tell("domain-shutdown");
  devices_.forget_offers();
  devices_.drop_attachments();
  if (auto clients = supervisor())
    self->send(clients, atom::down_v);
}

} // namespace qubes::actors
