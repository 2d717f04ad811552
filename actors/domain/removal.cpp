// The end of a domain: its record goes first, then what the hypervisor and the disks had of it.
#include "actors/domain/domain.hpp"

#include "actors/common/guest_notification.hpp"
#include "model/change/creation.hpp"
#include "model/change/preload.hpp"
#include "model/property/default_rules.hpp"
#include "model/property/graph.hpp"
#include "model/property/kind_of.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

namespace {

bool removes(const model::plan& plan, const std::string& who) {
  return std::ranges::any_of(plan.what.edits, [&](auto& x) {
    auto* gone = std::get_if<model::remove_domain>(&x);
    return gone && gone->name == who;
  });
}

} // namespace

/// A disposable that has shut down leaves nothing behind.
void domain_state::clean_up(const std::function<void()>& then) {
  auto now = look();
  auto* me = record(now);
  if (!me || !me->is(model::disp_vm) || !model::read_bool({now.view(), me}, "auto_cleanup"))
    return then();
  auto removed = heard_here_([this, then](const model::outcome<std::string>& done) {
    if (!done)
      note(spdlog::level::warn, "not cleaned up: {}", done.error().message());
    then();
  });
  carry_out(ask::remove{}, removed);
}

/// It has been down: what waits ready may be of yesterday, or one fewer.
void domain_state::tell_disposables() {
  auto now = look();
  auto v = now.view();
  auto* me = record(now);
  if (!me)
    return;
  if (model::is_preload(v, *me))
    self->send(world_->disposables, atom::reload_v, model::template_of(v, *me)->name.str());
  if (!model::preloaded(*me).empty())
    self->send(world_->disposables, atom::down_v, who_);
  if (me->is(model::template_class))
    for (auto* x : model::based_on(v, *me))
      if (!model::preloaded(*x).empty())
        self->send(world_->disposables, atom::down_v, x->name.str());
}

/// A daemon that is killed in the middle of it is followed by one that ends it. Where it cannot be
/// noted, on a full disk, it goes on: removals make room.
void domain_state::note_removal(const model::plan& plan, const std::function<void()>& then) {
  auto disks = removes(plan, who_) ? my_disks() : std::nullopt;
  if (!disks)
    return then();
  ask_storage(self, world_, std::move(*disks), disk_job::note_removal{})
      .then([then] { then(); },
            [this, then](const caf::error& why) {
              note(spdlog::level::warn, "its removal is not noted: {}", from_caf(why).message());
              then();
            });
}

void domain_state::forget_removal(const model::plan& plan) {
  auto disks = removes(plan, who_) ? my_disks() : std::nullopt;
  if (disks)
    caf::anon_send(world_->storage,
                   storage_job{typed_disk_job{std::move(*disks), disk_job::forget_removal{}}});
}

bool domain_state::removed_by(const model::plan& done, const model::system_ptr& before,
                              const reply& to) {
  if (!removes(done, who_))
    return false;
  gone_ = true;
  volumes_.break_off_copies();
  self->send(world_->events, done.before);
  self->send(world_->events, done.after);
  tell_menus(self, world_, before, done.what, done.after);
  auto disks = disk_job::domain_target{.system = before, .domain = before->share(who_)};
  auto now = look();
  if (model::read_bool({{*before, world_->board, *now.machine}, disks.domain.get()}, "autostart"))
    start_at_boot(self, world_, who_, false);
  auto finish = [this, to](const model::outcome<std::string>& how) {
    to.give(how);
    change_ended(); // those who waited hear that it is gone
    self->quit();
  };
  auto remove_disks = [this, disks, finish] {
    ask_storage(self, world_, disks, disk_job::remove_disks{})
        .then([finish] { finish(std::string{}); },
              [this, finish](const caf::error& x) {
                auto why = from_caf(x);
                finish(model::fail(
                    why.code, fmt::format("'{}' is gone, its disks are not: {}", who_, why.text),
                    "the daemon tries again when it starts, or before the name is used again"));
              });
  };
  if (!disks.domain->is(model::qubes_vm)) {
    finish(std::string{});
    return true;
  }
  auto last = work(job::undefine_guest{});
  last.about.at = model::hypervisor_of({*before, world_->board, *now.machine}, *disks.domain);
  ask_driver(self, world_, std::move(last)).then(remove_disks, [remove_disks](const caf::error&) {
    remove_disks();
  }); // unknown is fine
  return true;
}

/// Somebody took the record out of the file, or our own removal is under way. A life that has begun
/// is ended first.
void domain_state::lose_record() {
  lost_record_ = true;
  if (changing_ || gone_ || std::exchange(ends_with_record_, true))
    return;
  tell_loss(self, world_, who_);
  auto end = [this] {
    end_removal(self, world_, who_, uuid_);
    self->quit();
  };
  if (facts_.state == model::power::halted && !start_ && !stopping_)
    return end();
  wait_for_stop(waits_as::kill, heard_here_([this, end](const model::outcome<std::string>& down) {
                  if (down)
                    return end();
                  note(spdlog::level::err, "it has no record any more, and its guest lives on: {}",
                       down.error().message());
                  self->quit();
                }));
  take_down();
}

} // namespace qubes::actors
