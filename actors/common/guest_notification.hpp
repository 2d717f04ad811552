// What running guests are told: written to their QubesDB through the driver, and only their own
// domain waits for it.
#pragma once

#include "actors/common/ask_driver.hpp"
#include "actors/common/log.hpp"
#include "actors/common/world.hpp"
#include "model/base/name.hpp"
#include "model/change/creation.hpp"
#include "model/change/plan.hpp"
#include "model/change/preload.hpp"
#include "model/guest/extension.hpp"
#include "model/guest/extensions/appmenus.hpp"
#include "model/guest/extensions/audio.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

#include <functional>
#include <string>
#include <utility>

namespace qubes::actors {

/// Makes the edits; `then` runs once they are made, or once they failed, which is only noted.
template <class Self>
void write_qubesdb(
    Self* self, const world_ptr& in, const std::string& whose, model::qubesdb_edits edits,
    const std::function<void()>& then = [] {}) {
  ask_driver(self, in, {.name = whose}, job::write_qubesdb{std::move(edits)})
      .then(then, [then, whose](const caf::error& why) {
        log(spdlog::level::warn, {.domain = whose, .method = {}},
            fmt::format("it could not be told: {}", from_caf(why).text));
        then();
      });
}

/// Whether a domain that was just made, or is no more, starts with the host.
template <class Self>
void start_at_boot(Self* self, const world_ptr& in, const std::string& whose, bool on) {
  ask_driver(self, in, {.name = whose}, job::start_at_boot{on})
      .then([] {},
            [whose](const caf::error& why) {
              log(spdlog::level::warn, {.domain = whose, .method = {}}, from_caf(why).text);
            });
}

/// A change of autostart may have been cut off, before or after it became a fact.
template <class Self>
void align_boot(Self* self, const world_ptr& in, const std::string& whose) {
  auto now = in->look();
  auto* x = now.find(whose);
  start_at_boot(self, in, whose, x && model::read_bool({now.view(), x}, "autostart"));
}

/// The domain's record is gone, and the actor that removed it did not live to do the rest.
template <class Self>
void end_removal(Self* self, const world_ptr& in, const std::string& whose,
                 const std::string& uuid) {
  align_boot(self, in, whose);
  self->send(in->storage, domain_ended{uuid});
}

/// Whether dom0 itself runs a service.
template <class Self>
void mark_service(Self* self, const world_ptr& in, std::string service, bool on) {
  ask_driver(self, in, {.name = "dom0"}, job::mark_service{std::move(service), on})
      .then([] {},
            [](const caf::error& why) {
              log(spdlog::level::warn, {.domain = "dom0", .method = {}}, from_caf(why).text);
            });
}

/// Writes to all these guests; `then` waits for `mine` alone.
template <class Self>
void tell_guests(
    Self* self, const world_ptr& in, model::notices all, const std::string& mine = {},
    const std::function<void()>& then = [] {}) {
  auto own = all.extract(mine);
  for (auto& [whose, edits] : all)
    write_qubesdb(self, in, whose, std::move(edits));
  if (own)
    write_qubesdb(self, in, mine, std::move(own.mapped()), then);
  else
    then();
}

/// Where the stub domain of a guest sends its sound.
template <class Self>
void switch_sound(Self* self, const world_ptr& in, const model::sound_turn& x) {
  auto call = model::service_call{.service = "qubes.SetAudioVM+" + x.player_xid, .user = "root"};
  ask_driver(self, in, {.name = model::stub_domain_of(x.guest)}, job::run_service{std::move(call)})
      .then([] {},
            [guest = x.guest](const caf::error& why) {
              log(spdlog::level::warn, {.domain = guest, .method = {}},
                  fmt::format("its sound stays where it is: {}", from_caf(why).text));
            });
}

/// After a commit: the running guests that the change concerns.
template <class Self>
void tell_change(
    Self* self, const world_ptr& in, const model::system_ptr& before, const model::change& what,
    const std::string& mine = {}, std::function<void()> then = [] {}) {
  auto now = in->look();
  auto v_before = model::view{*before, in->board, *now.machine};
  auto v_after = now.view();
  for (auto& x : model::feature_turns(what, "service."))
    if (x.owner == "dom0")
      mark_service(self, in, std::string{x.key}, x.value && !x.value->empty());
  for (auto& x : model::sound_turns({v_before, v_after, what}))
    switch_sound(self, in, x);
  for (auto& x : model::preload_news_of(v_before, v_after, what))
    if (x.what == model::preload_turn::drop)
      self->send(in->disposables, atom::drop_v, x.base);
    else if (x.what == model::preload_turn::fill)
      self->send(in->disposables, atom::fill_v, x.base);
    else
      self->send(in->disposables, atom::review_v, x.base);
  tell_guests(self, in, model::told_by_change({v_before, v_after, what}), mine, std::move(then));
}

/// dom0 asks a template that has just got its programs for its applications.
template <class Self>
void sync_menus(Self* self, const world_ptr& in, const std::string& whose) {
  ask_driver(self, in, {.name = whose}, job::sync_menus{.patience = std::chrono::minutes{10}})
      .then([] {},
            [whose](const caf::error& why) {
              log(spdlog::level::warn, {.domain = whose, .method = {}},
                  fmt::format("its applications are not known: {}", from_caf(why).text));
            });
}

/// After a commit: the GUI domains whose menus change.
template <class Self>
void tell_menus(Self* self, const world_ptr& in, const model::system_ptr& before,
                const model::change& what, const events& told) {
  auto now = in->look();
  auto v_before = model::view{*before, in->board, *now.machine};
  auto v_after = now.view();
  auto actors = in->directory.read();
  for (auto& x : model::menu_turns({v_before, v_after, what}, told))
    if (auto* gui = actors->find(x.gui))
      self->send(gui->domain, x);
  for (auto& x : model::menus_to_sync(v_after, told))
    sync_menus(self, in, x);
}

/// After a commit of what was planned: guests, and subscribers of events.
template <class Self>
void tell_plan(Self* self, const world_ptr& in, const model::system_ptr& before,
               const model::plan& done) {
  tell_change(self, in, before, done.what);
  tell_menus(self, in, before, done.what, done.after);
  self->send(in->events, done.before);
  self->send(in->events, done.after);
}

/// The record of `who` was taken out of the file. Nothing, where the name is another domain's by
/// now.
template <class Self>
void tell_record_gone(Self* self, const world_ptr& in, const std::string& who) {
  if (!in->look().find(who))
    self->send(in->events, model::news_of_removal(who));
}

} // namespace qubes::actors
