#include "actors/domain/removal.hpp"

#include "actors/common/guest_notification.hpp"
#include "actors/domain/domain.hpp"
#include "model/property/kind_of.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

void domain_removal::clean_up(const std::function<void()>& then) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me || !me->is(model::disp_vm) || !model::read_bool({now.view(), me}, "auto_cleanup"))
    return then();
  auto removed = domain_.heard_here([this, then](const model::outcome<std::string>& done) {
    if (!done)
      domain_.note(spdlog::level::warn, "not cleaned up: {}", done.error().message());
    then();
  });
  domain_.changes.carry_out(ask::remove{}, removed);
}

void domain_removal::note(const model::plan& plan, const std::function<void()>& then) {
  auto disks = is_planned_by(plan) ? domain_.my_disks() : std::nullopt;
  if (!disks)
    return then();
  ask_storage(domain_.self, domain_.world(), std::move(*disks), disk_job::note_removal{})
      .then([then] { then(); },
            [this, then](const caf::error& why) {
              domain_.note(spdlog::level::warn, "its removal is not noted: {}",
                           from_caf(why).message());
              then();
            });
}

void domain_removal::forget(const model::plan& plan) {
  auto disks = is_planned_by(plan) ? domain_.my_disks() : std::nullopt;
  if (disks)
    caf::anon_send(domain_.world()->storage,
                   storage_job{typed_disk_job{std::move(*disks), disk_job::forget_removal{}}});
}

bool domain_removal::is_planned_by(const model::plan& x) const {
  return std::ranges::any_of(x.what.edits, [&](auto& edit) {
    auto* gone = std::get_if<model::remove_domain>(&edit);
    return gone && gone->name == domain_.who();
  });
}

void domain_removal::begin(const model::plan& done, const model::system_ptr& before,
                           const reply& to) {
  gone_ = true;
  domain_.volumes.break_off_copies();
  domain_.self->send(domain_.world()->events, done.before);
  domain_.self->send(domain_.world()->events, done.after);
  tell_menus(domain_.self, domain_.world(), before, done.what, done.after);
  auto now = domain_.look();
  auto v = model::view{*before, domain_.world()->board, *now.machine};
  auto me = before->share(domain_.who());
  if (model::read_bool({v, me.get()}, "autostart"))
    start_at_boot(domain_.self, domain_.world(), domain_.who(), false);
  if (!me->is(model::qubes_vm))
    return end(std::string{}, to);
  auto remove = [this, disks = disk_job::domain_target{.system = before, .domain = me}, to] {
    remove_disks(disks, to);
  };
  auto last = domain_.work(job::undefine_guest{});
  last.about.at = model::hypervisor_of(v, *me);
  ask_driver(domain_.self, domain_.world(), std::move(last))
      .then(remove, [remove](const caf::error&) { remove(); }); // unknown is fine
}

void domain_removal::remove_disks(const disk_job::domain_target& which, const reply& to) {
  ask_storage(domain_.self, domain_.world(), which, disk_job::remove_disks{})
      .then([this, to] { end(std::string{}, to); },
            [this, to](const caf::error& x) {
              auto why = from_caf(x);
              end(model::fail(
                      why.code,
                      fmt::format("'{}' is gone, its disks are not: {}", domain_.who(), why.text),
                      "the daemon tries again when it starts, or before the name is used again"),
                  to);
            });
}

/// Requests that waited hear that the domain is gone.
void domain_removal::end(const model::outcome<std::string>& how, const reply& to) {
  to.give(how);
  domain_.changes.ended();
  domain_.self->quit();
}

void domain_removal::go_on() {
  if (lost_record_ && !gone_)
    lose_record();
}

void domain_removal::lose_record() {
  lost_record_ = true;
  if (domain_.changes.is_changing() || gone_ || std::exchange(ends_with_record_, true))
    return;
  tell_record_gone(domain_.self, domain_.world(), domain_.who());
  auto end = [this] {
    end_removal(domain_.self, domain_.world(), domain_.who(), domain_.uuid());
    domain_.self->quit();
  };
  if (domain_.facts().state == model::power::halted && !domain_.start.is_under_way()
      && !domain_.stop.is_stopping_volumes())
    return end();
  domain_.stop.wait_for(
      waits_as::kill, domain_.heard_here([this, end](const model::outcome<std::string>& down) {
        if (down)
          return end();
        domain_.note(spdlog::level::err, "it has no record any more, and its guest lives on: {}",
                     down.error().message());
        domain_.self->quit();
      }));
  domain_.stop.take_down();
}

} // namespace qubes::actors
