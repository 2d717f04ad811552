#include "actors/domain/start.hpp"

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

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::power;

const std::vector<domain_start::step>& domain_start::steps() {
  using me = domain_start;
  static const auto steps = std::vector<step>{
      {"permission", &me::check_permission, nullptr},
      {"devices", &me::check_devices, &me::undo_devices},
      {"verify", &me::verify_files, nullptr},
      {"strangers", &me::look_for_strangers, nullptr},
      {"netvm", &me::bring_up_netvm, &me::undo_netvm},
      {"memory", &me::reserve_memory, nullptr},
      {"volumes", &me::start_volumes, &me::undo_volumes},
      {"pre-spawn", &me::prepare_spawn, nullptr},
      {"mark", &me::mark, &me::undo_mark},
      {"create", &me::create, &me::undo_create},
      {"attached", &me::learn_required, nullptr},
      {"xenstore", &me::announce_memory, nullptr},
      {"spawn", &me::spawned, nullptr},
      {"qubesdb", &me::open_qubesdb, nullptr},
      {"unpause", &me::run_guest, nullptr},
      {"stub domain", &me::start_stub_agent, nullptr},
      {"agent", &me::start_agent, nullptr},
      {"unmark", &me::unmark, nullptr},
      {"start", &me::started, nullptr},
  };
  return steps;
}

// -- the run -------------------------------------------------------------------------------------

void domain_start::begin(const reply& to) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return to.refuse(model::no_such_domain(domain_.who()));
  if (auto starts = model::check_has_starts(*me); !starts)
    return to.refuse(std::move(starts.error()));
  if (goes_on()) { // a second caller waits for the start that is under way
    run_->waiting.push_back(to);
    return;
  }
  if (run_ && run_->undo_waits)
    return to.refuse({errc::vm_error,
                      fmt::format("'{}' cannot be started: {}", domain_.who(),
                                  domain_.reason(domain_core::trouble::start).value_or("")),
                      "kill it to try again at once"});
  if (run_ || domain_.stop.is_destroying() || domain_.stop.is_stopping_volumes()
      || domain_.facts().going_down)
    return domain_.stop.start_after(to);
  if (domain_.facts().state == power::crashed) {
    domain_.stop.start_after(to);
    return domain_.stop.take_down();
  }
  if (domain_.facts().state != power::halted)
    return to.ok();
  if (!domain_.guest.is_known())
    return domain_.guest.learn([this, to] { begin(to); }, to);
  if (domain_.changes.is_changing()) {
    domain_.does("start", "change");
    domain_.changes.start_after(to);
    return;
  }
  run_ = std::make_unique<run>();
  run_->waiting.push_back(to);
  run_->run = domain_.operations.begin("start");
  domain_.move(power::starting);
  enter_step();
}

bool domain_start::is_before_guest() const {
  return run_ && (!run_->unpaused || run_->failed);
}

void domain_start::enter_step() {
  auto& step = steps()[run_->step];
  run_->run.step_began_us = domain_.world()->now_us();
  domain_.does("start", step.name, run_->run.began_us);
  if (!domain_.record(domain_.look()))
    return fail(
        {errc::vm_not_found, fmt::format("'{}' was removed while it started", domain_.who()), {}});
  (this->*step.enter)();
}

void domain_start::next_step() {
  if (!goes_on())
    return;
  if (run_->abort)
    return fail(*run_->abort);
  run_->run.end_step(steps()[run_->step].name, domain_.world()->now_us());
  if (++run_->step < steps().size())
    enter_step();
  else
    finish();
}

void domain_start::fail(model::error why) {
  if (!goes_on())
    return;
  auto step = steps()[run_->step].name;
  domain_.note(spdlog::level::warn, "start failed in step '{}': {}", step, why.message());
  run_->run.end_step(step, domain_.world()->now_us());
  domain_.operations.remember(run_->run, model::failure_of(why, step));
  run_->failed = true;
  run_->cancellation->stop.request_stop();
  run_->why = std::move(why);
  domain_.tell("domain-start-failed", {{"reason", run_->why->text}});
  unwind();
}

void domain_start::abort(model::error why) {
  if (run_->building)
    run_->abort = std::move(why);
  else
    fail(std::move(why));
}

void domain_start::undo_cut_off(model::error why) {
  auto& all = steps();
  auto built = std::ranges::find(all, &domain_start::create, &step::enter);
  run_ = std::make_unique<run>();
  run_->step = static_cast<std::size_t>(built - all.begin());
  run_->failed = true;
  run_->run = domain_.operations.begin("start");
  run_->why = std::move(why);
  domain_.operations.remember(run_->run, model::failure_of(*run_->why));
  orphan_possible_ = true;
  if (domain_.facts().state == power::starting)
    domain_.publish_facts();
  else
    domain_.move(power::starting);
  domain_.tell("domain-start-failed", {{"reason", run_->why->text}});
  unwind();
}

/// Undoes the entered steps in reverse; an undo that takes time calls this again when it is done.
void domain_start::unwind() {
  while (run_->step < steps().size()) {
    auto undo = steps()[run_->step].undo;
    --run_->step; // wraps around after the first step, which ends the loop
    if (undo)
      return (this->*undo)();
  }
  auto run = std::move(run_);
  domain_.end_life();
  domain_.firewall.life_ended();
  domain_.does_nothing();
  if (domain_.facts().state != power::halted)
    domain_.move(power::halted);
  domain_.changes.needs_no_netvm();
  domain_.removal.clean_up([waiting = run->waiting, why = *run->why] {
    for (auto& x : waiting)
      x.refuse(why);
  });
  domain_.stop.end_waits(stop_end::down, {});
}

void domain_start::finish() {
  auto run = std::move(run_);
  domain_.guest.look_for_agent();
  domain_.network.sync(); // the record may have changed on the way
  domain_.does_nothing();
  domain_.operations.remember(run->run);
  tell_others([waiting = std::move(run->waiting)] {
    for (auto& x : waiting)
      x.ok();
  });
  domain_.menus.take_up();
}

template <class Work, class Then>
void domain_start::step_by(Work what, Then then) {
  domain_.run(std::move(what), if_it_goes_on(std::move(then)),
              [this](const model::error& why) { fail(why); });
}

template <class Work>
void domain_start::step_by(Work what) {
  step_by(std::move(what), [this] { next_step(); });
}

// -- the steps -----------------------------------------------------------------------------------

void domain_start::check_permission() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return fail(model::no_such_domain(domain_.who()));
  if (auto permitted = model::check_permitted(now.view(), *me); !permitted)
    return fail(std::move(permitted.error()));
  domain_.tell("domain-pre-start", {{"start_guid", "True"}, {"mem_required", "None"}});
  if (auto fit = model::check_fit(now.view(), *me); !fit)
    return fail(std::move(fit.error()));
  next_step();
}

void domain_start::verify_files() {
  auto now = domain_.look();
  if (auto sound = model::check_volumes(now.view(), *domain_.record(now)); !sound)
    return fail(std::move(sound.error()));
  auto verified = [this] {
    domain_.tell("domain-verify-files");
    next_step();
  };
  auto failed = [this](const model::error& why) { fail(why); };
  step_by(domain_.work(job::verify_directory{domain_.directory_of_mine()}),
          [this, verified, failed](const std::optional<std::string>& overlay) {
            run_->has.overlay = overlay;
            if (auto disks = domain_.my_disks())
              domain_.run_on_disks(std::move(*disks), disk_job::verify_disks{},
                                   if_it_goes_on(verified), failed);
            else
              verified();
          });
}

/// What a failed start leaves behind is ended by its uuid, which no other guest may have.
void domain_start::look_for_strangers() {
  auto now = domain_.look();
  if (model::abilities_of(now.view(), *domain_.record(now)).xenstore)
    return step_by(domain_.work(job::look_for_strangers{}));
  step_by(domain_.work(job::inspect_guest{}), [this](const model::guest& found) {
    if (found.xid < 0 || orphan_possible_)
      return next_step();
    fail({errc::vm_error,
          fmt::format("the hypervisor has an active guest with the uuid of '{}', {}, which was "
                      "not started from here",
                      domain_.who(), domain_.uuid()),
          fmt::format("'virsh destroy {}' there ends it", domain_.uuid())});
    domain_.guest.look_again(); // this start hid the guest until now
  });
}

void domain_start::bring_up_netvm() {
  domain_.network.link().expect(domain_.network.netvm_in_record());
  with_netvm([this] { next_step(); });
}

/// The record may move while its netvm comes up, and that one may fall again before there is a
/// guest.
void domain_start::with_netvm(const std::function<void()>& then) {
  auto current = [this, life = domain_.life()] { return life == domain_.life() && goes_on(); };
  auto again = [this, current, then] {
    if (!current())
      return;
    domain_.network.link().now().may_start() ? then() : with_netvm(then);
  };
  domain_.network.link().join(
      again, [this, current, again,
              netvm = domain_.network.link().now().wanted()](const model::error& why) {
        if (!current())
          return;
        if (netvm != domain_.network.link().now().wanted())
          return again();
        fail({why.code,
              fmt::format("netvm '{}' of '{}' did not start: {}", netvm, domain_.who(), why.text),
              why.hint});
      });
}

void domain_start::undo_netvm() {
  domain_.network.link().turn([](auto& x) { x.ends(); });
  unwind();
}

/// Held until the domain is created and its memory is its own, or until the start failed.
void domain_start::reserve_memory() {
  auto now = domain_.look();
  auto what =
      job::reserve_memory{.bytes = model::memory_to_reserve(now.view(), *domain_.record(now)),
                          .patience = domain_.world()->settings.start,
                          .cancellation = run_->cancellation,
                          .served = [world = domain_.world(), who = domain_.who()] {
                            world->status.go_on(who, "memory: in line", "memory");
                          }};
  domain_.world()->status.go_on(domain_.who(), "memory", "memory: in line");
  step_by(domain_.work(std::move(what)), [this](const std::shared_ptr<void>& reservation) {
    run_->memory = reservation;
    next_step();
  });
}

/// Other starts may have come in between: the volumes are checked again.
void domain_start::start_volumes() {
  auto now = domain_.look();
  if (auto sound = model::check_volumes(now.view(), *domain_.record(now)); !sound)
    return fail(std::move(sound.error()));
  auto disks = domain_.my_disks();
  if (!disks)
    return next_step();
  domain_.run_on_disks(std::move(*disks), disk_job::start_disks{run_->cancellation},
                       if_it_goes_on([this](const disk_job::start_disks::result& devices) {
                         run_->has.volumes.insert(devices.begin(), devices.end());
                         next_step();
                       }),
                       [this](model::error why) {
                         why.text = fmt::format("the volumes of '{}' could not be started: {}",
                                                domain_.who(), why.text);
                         fail(std::move(why));
                       });
}

/// Volumes that are only being started are stopped after that.
void domain_start::undo_volumes() {
  domain_.stop.stop_volumes([this] { unwind(); });
}

void domain_start::prepare_spawn() {
  domain_.tell("domain-pre-spawn", {{"start_guid", "True"}});
  domain_.entries.announce_to_netvm([this, life = domain_.life()] {
    if (life == domain_.life())
      next_step();
  });
}

/// From here to the end of the start a daemon that dies leaves a guest that is not whole.
void domain_start::mark() {
  step_by(domain_.work(job::mark_start{}));
}

void domain_start::unmark() {
  step_by(domain_.work(job::unmark_start{}));
}

/// The guest is gone: a mark that stays would lead to nothing.
void domain_start::undo_mark() {
  domain_.run(
      domain_.work(job::unmark_start{}), [this] { unwind(); },
      [this](const model::error& why) {
        domain_.note(spdlog::level::warn, "{}", why.text);
        unwind();
      });
}

/// What moved since is followed first; nothing may come between this and the build, which is of the
/// same snapshot.
bool domain_start::is_ready_for_guest(const snapshot& now) {
  domain_.network.link().turn([&](auto& x) { x.wants(domain_.network.netvm_in(now)); });
  if (domain_.network.link().now().may_start())
    return true;
  with_netvm([this] {
    domain_.entries.announce_to_netvm([this, life = domain_.life()] {
      if (life == domain_.life() && goes_on())
        create();
    });
  });
  return false;
}

void domain_start::create() {
  auto now = domain_.look();
  if (!is_ready_for_guest(now))
    return;
  auto* me = domain_.record(now);
  if (!me)
    return fail(model::no_such_domain(domain_.who()));
  auto xml = describe_guest(now.view(), *me, run_->has);
  if (!xml)
    return fail(std::move(xml.error()));
  domain_.tell_skipped(xml->skipped);
  auto link = std::optional<model::network_link>{};
  if (auto* netvm = model::netvm_of(now.view(), *me))
    link = domain_.network.link_to(netvm->name, xml->mac);
  run_->building = true;
  domain_.run(
      domain_.work(
          job::create_guest{std::move(xml->text), std::move(xml->plain), std::move(xml->needs)}),
      [this, link](const model::guest& built) {
        orphan_possible_ = run_->building = false;
        domain_.live_as(built);
        domain_.network.link().turn([&](auto& it) { it.has_guest_at(link); });
        domain_.publish_facts();
        next_step();
      },
      [this](model::error why) {
        orphan_possible_ = true;
        run_->building = false;
        why.text = fmt::format("start of '{}' failed: {}", domain_.who(), why.text);
        fail(std::move(why));
      });
}

/// The guest may be half there, or all of it: take it down, then tell the stop if it ever was up.
/// Volumes below a guest that may live are not touched, so nothing goes on before it is gone.
void domain_start::undo_create() {
  run_->undo_waits = false;
  auto down = [this] {
    domain_.recover({domain_core::trouble::start});
    if (domain_.facts().xid >= 0)
      domain_.stop.stopped();
    unwind();
  };
  domain_.run(
      domain_.work(job::take_back_guest{}),
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

/// A client that waits for the start, or has it taken down, hears of that; the next attempt is its
/// own.
void domain_start::take_down_later(const model::error& why) {
  domain_.degrade(domain_core::trouble::start,
                  fmt::format("its start failed and it could not be taken down yet: {}", why.text));
  for (auto& x : std::exchange(run_->waiting, {}))
    x.refuse(*run_->why);
  run_->undo_waits = true;
  domain_.try_again(run_->undo_pause);
  domain_.stop.end_waits(stop_end::not_killed, tl::unexpected{why});
}

void domain_start::tick() {
  if (waits_with_undo() && domain_.comes_due(run_->undo_pause))
    undo_create();
}

void domain_start::announce_memory() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto entries = model::xenstore_entries(now.view(), *me, domain_.facts().xid);
  if (entries.empty())
    return next_step();
  step_by(domain_.work(job::write_xenstore{std::move(entries)}));
}

void domain_start::spawned() {
  run_->memory.reset();
  domain_.tell_runtime_reset();
  domain_.tell("domain-spawn", {{"start_guid", "True"}});
  domain_.tell_legacy_netvm([] {});
  next_step();
}

void domain_start::open_qubesdb() {
  if (!domain_.entries.has_qubesdb()) {
    domain_.network.guest_was_told(domain_.network.netvm_in_record());
    domain_.devices.offers_nothing();
    return next_step();
  }
  auto entries = domain_.entries.all();
  if (!entries)
    return fail(std::move(entries.error()));
  step_by(domain_.work(job::open_qubesdb{std::move(*entries)}),
          [this, netvm = domain_.network.netvm_in_record()] {
            domain_.network.guest_was_told(netvm);
            domain_.devices.offers_nothing();
            domain_.tell("domain-qdb-create");
            domain_.devices.forget_sound();
            domain_.entries.watch([this] { next_step(); });
          });
}

void domain_start::run_guest() {
  domain_.tell("domain-pre-unpaused");
  step_by(domain_.work(job::unpause_guest{}), [this] {
    run_->unpaused = true;
    domain_.tell("domain-unpaused");
    next_step();
  });
}

job::start_agent domain_start::agent_work(const std::string& user) const {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto v = now.view();
  return {.user = user,
          .wait = model::has_feature(v, *me, "qrexec", model::chain::with_template),
          .patience = std::chrono::seconds{model::read_int({v, me}, "qrexec_timeout")},
          .debug = model::read_bool({v, me}, "debug"),
          .cancellation = run_->cancellation};
}

/// The stub domain of a guest may have an agent of its own.
void domain_start::start_stub_agent() {
  auto now = domain_.look();
  auto about = model::subject{now.view(), domain_.record(now)};
  auto xid = model::read_int(about, "stubdom_xid");
  if (xid < 0
      || !model::has_feature(about.view, *about.owner, "stubdom-qrexec",
                             model::chain::with_template))
    return next_step();
  auto stub = domain_identity{.name = model::stub_domain_of(domain_.who()),
                              .uuid = model::read_text(about, "stubdom_uuid"),
                              .xid = static_cast<std::int32_t>(xid)};
  step_by(typed_job{std::move(stub), agent_work("root")});
}

void domain_start::start_agent() {
  auto now = domain_.look();
  step_by(domain_.work(agent_work(model::service_user(now.view(), *domain_.record(now)))), [this] {
    domain_.agent_is_there(true);
    next_step();
  });
}

/// A GUI domain may be shown what dom0's keyboard and mouse do.
void domain_start::take_input() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (me && model::has_feature(now.view(), *me, "input-dom0-proxy", model::chain::own))
    domain_.run(
        domain_.work(job::trigger_input{}), [] {},
        [this](const model::error& why) { domain_.note(spdlog::level::warn, "{}", why.text); });
}

/// A client that asked for the start finds in others' QubesDBs what the start brings.
void domain_start::tell_others(const std::function<void()>& then) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto all = me ? model::told_by_start(now.view(), *me) : model::notices{};
  auto left = std::make_shared<std::size_t>(all.size() + 1);
  auto done = [left, then] {
    if (--*left == 0)
      then();
  };
  for (auto& [whose, edits] : all)
    write_qubesdb(domain_.self, domain_.world(), whose, std::move(edits), done);
  domain_.firewall.refresh(done);
}

/// A guest that was paused or put to sleep meanwhile stays so.
void domain_start::started() {
  if (domain_.facts().state == power::starting)
    domain_.move(power::running);
  domain_.recover({domain_core::trouble::start, domain_core::trouble::volumes});
  domain_.tell("domain-start", {{"start_guid", "True"}});
  domain_.devices.take_assigned();
  take_input();
  if (auto clients = domain_.supervisor())
    domain_.self->send(clients, provider_up{netvm_life::new_one});
  next_step();
}

} // namespace qubes::actors
