// The microphone: an entry in the QubesDB of the domain's audiovm says which domain gets its sound.
// Facts of the package qubes-gui-daemon.
#include "actors/domain/devices.hpp"
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
void domain_devices::with_sound_entry(const model::domain* player, const reply& to,
                                      const std::function<void(std::optional<std::string>)>& then) {
  auto now = domain_.look();
  if (!player || !model::listens(now.view(), *player))
    return then(std::nullopt);
  domain_.look_up(to, about(*player, job::read_qubesdb{config_entry(domain_.who())}),
                  [path = config_entry(domain_.who()), then](const model::entry_list& entries) {
                    for (auto& [at, text] : entries)
                      if (at == path)
                        return then(text);
                    then(std::nullopt);
                  });
}

void domain_devices::with_microphone(
    const reply& to, const std::function<void(std::vector<model::attachment>)>& then) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto* player = me ? model::read_domain({now.view(), me}, "audiovm") : nullptr;
  with_sound_entry(player, to, [then](const auto& entry) {
    auto mic = model::microphone();
    if (entry == "1")
      then({{microphone_class, mic.backend, mic.port, mic.identity, {}}});
    else
      then({});
  });
}

/// A service of the player switches the sound, where the player has one.
model::outcome<driver_job> domain_devices::let_sound_in(bool on) const {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return tl::unexpected{domain_.stopped_meanwhile(domain_.who())};
  auto* player = model::read_domain({now.view(), me}, "audiovm");
  if (!player)
    return model::fail(errc::general, fmt::format("nobody plays the sound of '{}'", domain_.who()),
                       "set its audiovm");
  if (!model::listens(now.view(), *player))
    return model::fail(errc::vm_not_running,
                       fmt::format("'{}', which plays its sound, does not run", player->name.str()),
                       fmt::format("start '{}'", player->name.str()));
  auto service = std::string{on ? "qubes.AudioInputEnable" : "qubes.AudioInputDisable"};
  auto of_player = [&](auto what) {
    auto result = about(*player, std::move(what));
    result.about.awaited_by = domain_.who();
    return result;
  };
  if (!model::has_feature(now.view(), *player, "supported-rpc." + service,
                          model::chain::with_netvm)) {
    auto what = job::write_qubesdb{};
    put(what.edits, config_entry(domain_.who()), on ? "1" : "0");
    return of_player(std::move(what));
  }
  auto user = model::service_user(now.view(), *player);
  return of_player(
      job::ask_service{.call = {.service = fmt::format("{}+{}", service, domain_.who()),
                                .user = user.empty() ? std::string{model::default_user} : user}});
}

/// A player remembers nothing of an earlier life of ours.
void domain_devices::forget_sound() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto* player = me ? model::read_domain({now.view(), me}, "audiovm") : nullptr;
  auto* row = model::find_device_kind(microphone_class);
  if (!is_there(*row, *now.machine) || !player || player == me
      || !model::listens(now.view(), *player))
    return;
  auto what = job::write_qubesdb{};
  for (auto folder : {"/audio-input-config/", "/audio-input/", "/audio-input-request/"})
    drop(what.edits, folder + domain_.who());
  domain_.run(
      about(*player, std::move(what)), [] {},
      [this](const model::error& why) {
        domain_.note(spdlog::level::warn, "its audiovm still knows an earlier microphone: {}",
                     why.text);
      });
}

/// What the former player was told, the next one is.
void domain_devices::move_sound(const model::system_ptr& before, const model::change& what) {
  auto now = domain_.look();
  auto v = now.view();
  auto* me = domain_.record(now);
  auto* row = model::find_device_kind(microphone_class);
  auto* was = before->find(domain_.who());
  if (!me || !was || domain_.facts().xid < 0 || !is_there(*row, *now.machine)
      || !model::touches(what, "audiovm"))
    return;
  auto* former = model::read_domain({{*before, v.board, v.machine}, was}, "audiovm");
  auto* next = model::read_domain({v, me}, "audiovm");
  if (!next || former == next || (former && former->name == next->name))
    return;
  auto failed = domain_.heard_here([this](const model::outcome<std::string>& x) {
    if (!x)
      domain_.note(spdlog::level::warn, "its microphone stays with its former audiovm: {}",
                   x.error().text);
  });
  if (!model::listens(v, *next))
    return failed.refuse(
        {errc::vm_not_running, fmt::format("'{}' does not run", next->name.str()), {}});
  auto to = about(*next, job::write_qubesdb{});
  with_sound_entry(former, failed, [this, failed, to](const auto& entry) {
    if (entry != "0" && entry != "1")
      return failed.ok();
    auto told = to;
    put(told.what.edits, config_entry(domain_.who()), *entry);
    domain_.run_for(failed, std::move(told), [failed] { failed.ok(); });
  });
}

} // namespace qubes::actors
