// The microphone: who gets its sound, an entry in the QubesDB of the domain's audiovm says. Facts
// of the package qubes-gui-daemon.
#include "actors/domain/domain.hpp"
#include "model/change/change.hpp"
#include "model/device/guest_devices.hpp"
#include "model/guest/extension.hpp"
#include "model/property/feature.hpp"
#include "model/property/property.hpp"
#include "model/property/service_user.hpp"

#include <fmt/format.h>

namespace qubes::actors {

using model::errc;

namespace {

constexpr auto microphone_class = "mic";

std::string config_entry(const std::string& who) {
  return "/audio-input-config/" + who;
}

} // namespace

/// The entry in the QubesDB of a player that runs; nothing when there is none.
void domain_state::with_sound_entry(const model::domain* player, const reply& to,
                                    const std::function<void(std::optional<std::string>)>& then) {
  auto now = look();
  if (!player || !model::listens(now.view(), *player))
    return then(std::nullopt);
  look_up(to, about(*player, job::read_qubesdb{config_entry(who_)}),
          [path = config_entry(who_), then](const model::entry_list& entries) {
            for (auto& [at, text] : entries)
              if (at == path)
                return then(text);
            then(std::nullopt);
          });
}

void domain_state::with_microphone(
    const reply& to, const std::function<void(std::vector<model::attachment>)>& then) {
  auto now = look();
  auto* me = record(now);
  auto* player = me ? model::read_domain({now.view(), me}, "audiovm") : nullptr;
  with_sound_entry(player, to, [then](const auto& entry) {
    auto mic = model::microphone();
    if (entry == "1")
      then({{microphone_class, mic.backend, mic.port, mic.identity, {}}});
    else
      then({});
  });
}

/// A service of the player does it, where it has one.
model::outcome<driver_job> domain_state::let_sound_in(bool on) const {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return tl::unexpected{stopped_meanwhile(who_)};
  auto* player = model::read_domain({now.view(), me}, "audiovm");
  if (!player)
    return model::fail(errc::general, fmt::format("nobody plays the sound of '{}'", who_),
                       "set its audiovm");
  if (!model::listens(now.view(), *player))
    return model::fail(errc::vm_not_running,
                       fmt::format("'{}', which plays its sound, does not run", player->name.str()),
                       fmt::format("start '{}'", player->name.str()));
  auto service = std::string{on ? "qubes.AudioInputEnable" : "qubes.AudioInputDisable"};
  auto of_player = [&](auto what) {
    auto result = about(*player, std::move(what));
    result.about.awaited_by = who_;
    return result;
  };
  if (!model::has_feature(now.view(), *player, "supported-rpc." + service,
                          model::chain::with_netvm)) {
    auto what = job::write_qubesdb{};
    put(what.edits, config_entry(who_), on ? "1" : "0");
    return of_player(std::move(what));
  }
  auto user = model::service_user(now.view(), *player);
  return of_player(
      job::ask_service{.call = {.service = fmt::format("{}+{}", service, who_),
                                .user = user.empty() ? std::string{model::default_user} : user}});
}

/// A player remembers nothing of an earlier life of ours.
void domain_state::forget_sound() {
  auto now = look();
  auto* me = record(now);
  auto* player = me ? model::read_domain({now.view(), me}, "audiovm") : nullptr;
  auto* row = model::find_device_kind(microphone_class);
  if (!is_there(*row, *now.machine) || !player || player == me
      || !model::listens(now.view(), *player))
    return;
  auto what = job::write_qubesdb{};
  for (auto folder : {"/audio-input-config/", "/audio-input/", "/audio-input-request/"})
    drop(what.edits, folder + who_);
  run(
      about(*player, std::move(what)), [] {},
      [this](const model::error& why) {
        note(spdlog::level::warn, "its audiovm still knows an earlier microphone: {}", why.text);
      });
}

/// What the former player was told, the next one is.
void domain_state::move_sound(const model::system_ptr& before, const model::change& what) {
  auto now = look();
  auto v = now.view();
  auto* me = record(now);
  auto* row = model::find_device_kind(microphone_class);
  auto* was = before->find(who_);
  if (!me || !was || facts_.xid < 0 || !is_there(*row, *now.machine)
      || !model::touches(what, "audiovm"))
    return;
  auto* former = model::read_domain({{*before, v.board, v.machine}, was}, "audiovm");
  auto* next = model::read_domain({v, me}, "audiovm");
  if (!next || former == next || (former && former->name == next->name))
    return;
  auto failed = heard_here_([this](const model::outcome<std::string>& x) {
    if (!x)
      note(spdlog::level::warn, "its microphone stays with its former audiovm: {}", x.error().text);
  });
  if (!model::listens(v, *next))
    return failed.refuse(
        {errc::vm_not_running, fmt::format("'{}' does not run", next->name.str()), {}});
  auto to = about(*next, job::write_qubesdb{});
  with_sound_entry(former, failed, [this, failed, to](const auto& entry) {
    if (entry != "0" && entry != "1")
      return failed.ok();
    auto told = to;
    put(told.what.edits, config_entry(who_), *entry);
    run_for(failed, std::move(told), [failed] { failed.ok(); });
  });
}

} // namespace qubes::actors
