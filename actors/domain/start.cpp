// Bringing a domain up, step by step, each with its undo (spec/lifecycle.md §2).
#include "actors/common/guest_notification.hpp"
#include "actors/domain/domain.hpp"
#include "model/device/auto_attach.hpp"
#include "model/guest/qubesdb.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/memory.hpp"
#include "model/property/property.hpp"
#include "model/property/service_user.hpp"
#include "model/start/start_outlook.hpp"
#include "model/storage/volume.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::power;

const std::vector<domain_state::start_step>& domain_state::start_steps() {
  using me = domain_state;
  static const auto steps = std::vector<start_step>{
      {"permission", &me::check_permission, nullptr},
      {"devices", &me::check_devices, &me::undo_devices},
      {"verify", &me::verify_files, nullptr},
      {"strangers", &me::look_for_strangers, nullptr},
      {"netvm", &me::bring_up_netvm, &me::undo_netvm},
      {"memory", &me::reserve_memory, nullptr},
      {"volumes", &me::start_volumes, &me::undo_volumes},
      {"pre-spawn", &me::prepare_spawn, nullptr},
      {"mark", &me::mark_start, &me::undo_mark},
      {"create", &me::create, &me::undo_create},
      {"attached", &me::learn_required, nullptr},
      {"xenstore", &me::announce_memory, nullptr},
      {"spawn", &me::spawned, nullptr},
      {"qubesdb", &me::open_qubesdb, nullptr},
      {"unpause", &me::run_guest, nullptr},
      {"stub domain", &me::start_stub_agent, nullptr},
      {"agent", &me::start_agent, nullptr},
      {"unmark", &me::unmark_start, nullptr},
      {"start", &me::started, nullptr},
  };
  return steps;
}

// -- the run -------------------------------------------------------------------------------------

void domain_state::start(const reply& to) {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return to.refuse(model::no_such_domain(who_));
  if (auto starts = model::check_has_starts(*me); !starts)
    return to.refuse(std::move(starts.error()));
  if (start_ && !start_->failed) { // a second caller rides on the first start
    start_->waiting.push_back(to);
    return;
  }
  if (start_ && start_->undo_waits)
    return to.refuse({errc::vm_error,
                      fmt::format("'{}' cannot be started: {}", who_, troubles_[trouble::start]),
                      "kill it to try again at once"});
  if (start_ || destroying_ || stopping_ || facts_.going_down)
    return start_after_stop(to);
  if (facts_.state == power::crashed) {
    start_after_stop(to);
    return take_down();
  }
  if (facts_.state != power::halted)
    return to.ok();
  if (!known_)
    return learn_truth([this, to] { start(to); }, to);
  if (changing_) {
    world_->status.begin(who_, "start", "change", world_->now_us());
    starts_after_change_.push_back(to);
    return;
  }
  start_ = std::make_unique<start_run>();
  start_->waiting.push_back(to);
  start_->run = operations_.begin("start");
  move(power::starting);
  enter_step();
}

bool domain_state::before_guest() const {
  return start_ && (!start_->unpaused || start_->failed);
}

void domain_state::enter_step() {
  auto& step = start_steps()[start_->step];
  start_->run.step_began_us = world_->now_us();
  world_->status.begin(who_, "start", std::string{step.name}, start_->run.began_us);
  if (!record(look()))
    return fail_start(
        {errc::vm_not_found, fmt::format("'{}' was removed while it started", who_), {}});
  (this->*step.enter)();
}

void domain_state::next_step() {
  if (!start_ || start_->failed)
    return;
  if (start_->abort)
    return fail_start(*start_->abort);
  start_->run.end_step(start_steps()[start_->step].name, world_->now_us());
  if (++start_->step < start_steps().size())
    enter_step();
  else
    finish_start();
}

void domain_state::fail_start(model::error why) {
  if (!start_ || start_->failed)
    return;
  auto step = start_steps()[start_->step].name;
  note(spdlog::level::warn, "start failed in step '{}': {}", step, why.message());
  start_->run.end_step(step, world_->now_us());
  operations_.remember(start_->run, model::failure_of(why, step));
  start_->failed = true;
  start_->disks->stop.request_stop();
  start_->why = std::move(why);
  tell("domain-start-failed", {{"reason", start_->why->text}});
  unwind();
}

/// A build that is under way must end first: destroying before it would leave an orphan.
void domain_state::abort_start(model::error why) {
  if (start_->building)
    start_->abort = std::move(why);
  else
    fail_start(std::move(why));
}

/// What the start of an actor before us may have built is taken down.
void domain_state::resume_undo() {
  auto& all = start_steps();
  auto built = std::ranges::find(all, &domain_state::create, &start_step::enter);
  start_ = std::make_unique<start_run>();
  start_->step = static_cast<std::size_t>(built - all.begin());
  start_->failed = true;
  start_->run = operations_.begin("start");
  start_->why = model::error{
      errc::internal, fmt::format("a fault of the daemon cut the start of '{}' off", who_), {}};
  operations_.remember(start_->run, model::failure_of(*start_->why));
  publish_facts();
  tell("domain-start-failed", {{"reason", start_->why->text}});
  unwind();
}

/// Undoes the entered steps in reverse; an undo that takes time calls this again when it is done.
void domain_state::unwind() {
  while (start_->step < start_steps().size()) {
    auto undo = start_steps()[start_->step].undo;
    --start_->step; // wraps around after the first step, which ends the loop
    if (undo)
      return (this->*undo)();
  }
  auto run = std::move(start_);
  ++life_;
  world_->status.finish(who_);
  if (facts_.state != power::halted)
    move(power::halted);
  needs_no_netvm();
  clean_up([waiting = run->waiting, why = *run->why] {
    for (auto& x : waiting)
      x.refuse(why);
  });
  stop_waiters_.end(stop_end::down, {});
}

void domain_state::finish_start() {
  auto run = std::move(start_);
  look_for_agent();
  network_.sync(); // the record may have changed on the way
  world_->status.finish(who_);
  operations_.remember(run->run);
  tell_others([waiting = std::move(run->waiting)] {
    for (auto& x : waiting)
      x.ok();
  });
  menus_.take_up();
}

// -- the steps -----------------------------------------------------------------------------------

void domain_state::check_permission() {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return fail_start(model::no_such_domain(who_));
  if (auto permitted = model::check_permitted(now.view(), *me); !permitted)
    return fail_start(std::move(permitted.error()));
  tell("domain-pre-start", {{"start_guid", "True"}, {"mem_required", "None"}});
  if (auto fit = model::check_fit(now.view(), *me); !fit)
    return fail_start(std::move(fit.error()));
  next_step();
}

void domain_state::verify_files() {
  auto now = look();
  if (auto sound = model::check_volumes(now.view(), *record(now)); !sound)
    return fail_start(std::move(sound.error()));
  auto verified = [this] {
    tell("domain-verify-files");
    next_step();
  };
  auto failed = [this](const model::error& why) { fail_start(why); };
  run(
      work(job::verify_directory{directory_of_mine()}),
      [this, verified, failed](const std::optional<std::string>& overlay) {
        start_->overlay = overlay;
        if (auto disks = my_disks())
          run_on_disks(std::move(*disks), disk_job::verify_disks{}, verified, failed);
        else
          verified();
      },
      failed);
}

/// What a failed start leaves behind is ended by its uuid: nobody else may have it. Where nobody
/// can look, it is known at least that the hypervisor is there before anything is built.
void domain_state::look_for_strangers() {
  auto now = look();
  if (model::abilities_of(now.view(), *record(now)).xenstore)
    return step_by(work(job::look_for_strangers{}));
  run(
      work(job::inspect_guest{}), [this](const model::guest&) { next_step(); },
      [this](const model::error& why) { fail_start(why); });
}

void domain_state::bring_up_netvm() {
  network_.link().expect(network_.netvm_in_record());
  with_netvm([this] { next_step(); });
}

/// The record may move while its netvm comes up, and that one may fall again before there is a
/// guest.
void domain_state::with_netvm(const std::function<void()>& then) {
  auto current = [this, life = life_] { return life == life_ && start_ && !start_->failed; };
  auto again = [this, current, then] {
    if (!current())
      return;
    network_.link().now().may_start() ? then() : with_netvm(then);
  };
  network_.link().join(again, [this, current, again,
                               netvm = network_.link().now().wanted()](const model::error& why) {
    if (!current())
      return;
    if (netvm != network_.link().now().wanted())
      return again();
    fail_start({why.code,
                fmt::format("netvm '{}' of '{}' did not start: {}", netvm, who_, why.text),
                why.hint});
  });
}

void domain_state::undo_netvm() {
  network_.link().turn([](auto& x) { x.ends(); });
  unwind();
}

/// Held until the domain is created and its memory is its own, or until the start failed.
void domain_state::reserve_memory() {
  auto now = look();
  auto what = job::reserve_memory{.bytes = model::memory_to_reserve(now.view(), *record(now)),
                                  .patience = world_->settings.start,
                                  .cancellation = start_->disks,
                                  .served = [world = world_, who = who_] {
                                    world->status.go_on(who, "memory: in line", "memory");
                                  }};
  world_->status.go_on(who_, "memory", "memory: in line");
  run(
      work(std::move(what)),
      [this](const std::shared_ptr<void>& reservation) {
        start_->memory = reservation;
        next_step();
      },
      [this](const model::error& why) { fail_start(why); });
}

/// Other starts may have come in between: what was checked is checked again.
void domain_state::start_volumes() {
  auto now = look();
  if (auto sound = model::check_volumes(now.view(), *record(now)); !sound)
    return fail_start(std::move(sound.error()));
  auto disks = my_disks();
  if (!disks)
    return next_step();
  run_on_disks(
      std::move(*disks), disk_job::start_disks{start_->disks},
      [this](const disk_job::start_disks::result& devices) {
        start_->devices.insert(devices.begin(), devices.end());
        next_step();
      },
      [this](model::error why) {
        why.text = fmt::format("the volumes of '{}' could not be started: {}", who_, why.text);
        fail_start(std::move(why));
      });
}

/// Also when they are only being started: they are stopped after that.
void domain_state::undo_volumes() {
  stop_volumes([this] { unwind(); });
}

void domain_state::prepare_spawn() {
  tell("domain-pre-spawn", {{"start_guid", "True"}});
  entries_.announce_to_netvm([this, life = life_] {
    if (life == life_)
      next_step();
  });
}

/// From here to the end of its start a daemon that dies leaves a guest that is not whole.
void domain_state::mark_start() {
  step_by(work(job::mark_start{}));
}

void domain_state::unmark_start() {
  step_by(work(job::unmark_start{}));
}

/// The guest is gone: a mark that stays would lead to nothing.
void domain_state::undo_mark() {
  run(
      work(job::unmark_start{}), [this] { unwind(); },
      [this](const model::error& why) {
        note(spdlog::level::warn, "{}", why.text);
        unwind();
      });
}

/// What moved since is followed first; nothing may come between this and the build.
bool domain_state::ready_for_guest() {
  if (network_.link().now().may_start())
    return true;
  with_netvm([this] {
    entries_.announce_to_netvm([this, life = life_] {
      if (life == life_ && start_ && !start_->failed)
        create();
    });
  });
  return false;
}

void domain_state::create() {
  if (!ready_for_guest())
    return;
  auto now = look();
  auto* me = record(now);
  if (!me)
    return fail_start(model::no_such_domain(who_));
  auto xml = describe_guest(now.view(), *me, *start_);
  if (!xml)
    return fail_start(std::move(xml.error()));
  tell_skipped(xml->skipped);
  auto link = std::optional<model::network_link>{};
  if (auto* netvm = model::netvm_of(now.view(), *me))
    link = network_.link_to(netvm->name, xml->mac);
  start_->building = true;
  run(
      work(job::create_guest{std::move(xml->text), std::move(xml->plain), std::move(xml->needs)}),
      [this, link](const model::guest& built) {
        orphan_possible_ = start_->building = false;
        live_as(built);
        network_.link().turn([&](auto& it) { it.has_guest_at(link); });
        publish_facts();
        next_step();
      },
      [this](model::error why) {
        orphan_possible_ = true;
        start_->building = false;
        why.text = fmt::format("start of '{}' failed: {}", who_, why.text);
        fail_start(std::move(why));
      });
}

/// The guest may be half there, or all of it: take it down, then tell the stop if it ever was up.
/// Volumes below a guest that may live are not touched, so nothing goes on before it is gone.
void domain_state::undo_create() {
  start_->undo_waits = false;
  auto down = [this] {
    recover({trouble::start});
    if (facts_.xid >= 0)
      stopped();
    unwind();
  };
  run(
      work(job::take_back_guest{}),
      [this, down] {
        orphan_possible_ = false;
        down();
      },
      [this, down](const model::error& why) {
        if (why.code == errc::vm_not_started)
          return down();
        take_down_later(why);
      });
}

/// Whoever waits for the start, or has it taken down, hears of that; the next attempt is its own.
void domain_state::take_down_later(const model::error& why) {
  degrade(trouble::start,
          fmt::format("its start failed and it could not be taken down yet: {}", why.text));
  for (auto& x : std::exchange(start_->waiting, {}))
    x.refuse(*start_->why);
  start_->undo_waits = true;
  try_again(start_->undo_pause);
  stop_waiters_.end(stop_end::not_killed, tl::unexpected{why});
}

void domain_state::announce_memory() {
  auto now = look();
  auto* me = record(now);
  auto entries = model::xenstore_entries(now.view(), *me, facts_.xid);
  if (entries.empty())
    return next_step();
  step_by(work(job::write_xenstore{std::move(entries)}));
}

void domain_state::spawned() {
  start_->memory.reset();
  tell_runtime_reset();
  tell("domain-spawn", {{"start_guid", "True"}});
  tell_legacy_netvm([] {});
  next_step();
}

void domain_state::open_qubesdb() {
  if (!entries_.has_qubesdb()) {
    network_.link().turn([this](auto& x) { x.guest_was_told(network_.netvm_in_record()); });
    devices_.offers_nothing();
    return next_step();
  }
  auto entries = entries_.all();
  if (!entries)
    return fail_start(std::move(entries.error()));
  run(
      work(job::open_qubesdb{std::move(*entries)}),
      [this, netvm = network_.netvm_in_record()] {
        network_.link().turn([&](auto& x) { x.guest_was_told(netvm); });
        devices_.offers_nothing();
        if (start_ && !start_->failed) // else it is on its way down
          tell("domain-qdb-create");
        devices_.forget_sound();
        entries_.watch([this] { next_step(); });
      },
      [this](const model::error& why) { fail_start(why); });
}

void domain_state::run_guest() {
  tell("domain-pre-unpaused");
  run(
      work(job::unpause_guest{}),
      [this] {
        start_->unpaused = true;
        tell("domain-unpaused");
        next_step();
      },
      [this](const model::error& why) { fail_start(why); });
}

job::start_agent domain_state::agent_work(const std::string& user) const {
  auto now = look();
  auto* me = record(now);
  auto v = now.view();
  return {.user = user,
          .wait = model::has_feature(v, *me, "qrexec", model::chain::with_template),
          .patience = std::chrono::seconds{model::read_int({v, me}, "qrexec_timeout")},
          .debug = model::read_bool({v, me}, "debug")};
}

/// The stub domain of a guest may have an agent of its own.
void domain_state::start_stub_agent() {
  auto now = look();
  auto about = model::subject{now.view(), record(now)};
  auto xid = model::read_int(about, "stubdom_xid");
  if (xid < 0
      || !model::has_feature(about.view, *about.owner, "stubdom-qrexec",
                             model::chain::with_template))
    return next_step();
  auto stub = domain_identity{.name = model::stub_domain_of(who_),
                              .uuid = model::read_text(about, "stubdom_uuid"),
                              .xid = static_cast<std::int32_t>(xid)};
  step_by(typed_job{std::move(stub), agent_work("root")});
}

void domain_state::start_agent() {
  auto now = look();
  run(
      work(agent_work(model::service_user(now.view(), *record(now)))),
      [this] {
        facts_.agent = true;
        next_step();
      },
      [this](const model::error& why) { fail_start(why); });
}

/// A GUI domain may be shown what dom0's keyboard and mouse do.
void domain_state::take_input() {
  auto now = look();
  auto* me = record(now);
  if (me && model::has_feature(now.view(), *me, "input-dom0-proxy", model::chain::own))
    run(
        work(job::trigger_input{}), [] {},
        [this](const model::error& why) { note(spdlog::level::warn, "{}", why.text); });
}

/// Whoever asked for the start finds in others' QubesDBs what it brings.
void domain_state::tell_others(const std::function<void()>& then) {
  auto now = look();
  auto* me = record(now);
  auto all = me ? model::told_by_start(now.view(), *me) : model::notices{};
  auto left = std::make_shared<std::size_t>(all.size() + 1);
  auto done = [left, then] {
    if (--*left == 0)
      then();
  };
  for (auto& [whose, edits] : all)
    write_qubesdb(self, world_, whose, std::move(edits), done);
  firewall_.refresh(done);
}

/// A guest that was paused or put to sleep meanwhile stays so.
void domain_state::started() {
  if (facts_.state == power::starting)
    move(power::running);
  recover({trouble::start, trouble::volumes});
  tell("domain-start", {{"start_guid", "True"}});
  devices_.take_assigned();
  take_input();
  if (auto clients = supervisor())
    self->send(clients, atom::up_v, netvm_life::new_one);
  next_step();
}

} // namespace qubes::actors
