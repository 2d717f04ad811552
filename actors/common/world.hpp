// What every actor may read at any time, and the actors that it may talk to.
#pragma once

#include "actors/boards/content_uses.hpp"
#include "actors/boards/directory.hpp"
#include "actors/boards/history_board.hpp"
#include "actors/boards/holders.hpp"
#include "actors/boards/status_board.hpp"
#include "actors/boards/unfinished_removals.hpp"
#include "actors/boards/unfinished_starts.hpp"
#include "actors/boards/volume_board.hpp"
#include "actors/common/budget.hpp"
#include "actors/common/deadlines.hpp"
#include "actors/common/settings.hpp"
#include "messages/published.hpp"
#include "model/device/device.hpp"
#include "model/policy/policy.hpp"
#include "model/system/site_overlay.hpp"
#include "model/system/site_template.hpp"
#include "model/system/view.hpp"
#include "model/xml/qubes_xml.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace qubes::actors {

/// One moment of the durable system and the machine; live facts are always those of now.
struct snapshot {
  held<model::system> system;
  held<model::host> machine;
  const model::live_board* board;

  model::view view() const { return {*system, *board, *machine}; }
  const model::domain* find(std::string_view name) const { return system->find(name); }
};

/// Shared by all actors. The handles are set once, before any message is sent, and dropped by the
/// root at the very end: they would keep the actors alive otherwise.
struct world {
  published<model::system> system;
  published<model::host> machine;
  published<actors::directory> directory;
  model::live_board board;
  actors::status_board status;
  history_board history;
  actors::volume_board volumes;
  content_uses contents;
  unfinished_removals removals;
  device_holders holders;
  /// Domains that a device may be for, each with the backend that asks the user about it now.
  published<std::multimap<std::string, std::string>> asked;
  /// PCI devices of the host; nothing where they have to be asked for.
  published<std::optional<std::vector<model::device>>> host_pci;
  /// Disposables of before the daemon's start that clean up after themselves, by uuid.
  std::set<std::string, std::less<>> leftovers;
  actors::unfinished_starts unfinished_starts;
  published<std::vector<model::xml::finding>> findings; ///< of the file that was read last
  /// What is said of templates that a site wrote for the stock daemon.
  published<std::vector<model::site_template>> site_templates;
  published<std::vector<model::site_overlay>> site_overlays;
  published<model::policy> policy; ///< of qrexec; without any rule until it is read

  actors::settings settings;
  /// Microseconds of a clock that is never set and that rests while the host sleeps: deadlines,
  /// ages and durations. A parameter, so that a simulation can have its own time.
  std::function<std::int64_t()> now_us;
  /// Microseconds since the epoch by the host's clock, which may jump: only for what users set or
  /// are told by date, that is, expiry of firewall rules, start times, times of backups and
  /// updates.
  std::function<std::int64_t()> wall_us;
  std::int64_t wall_s() const { return wall_us() / 1'000'000; }
  /// Random numbers, evenly spread; a parameter for the same reason.
  std::function<std::uint64_t()> chance;
  std::int64_t began_us = 0;
  std::string hypervisor_uri;
  std::string containers_uri; ///< "" for none
  std::string store_path;
  std::function<std::size_t()> connections; ///< open ones; may be empty
  actors::budget budget;                    ///< of the server's thread
  std::shared_ptr<actors::deadlines> deadlines;

  store_actor store;
  driver_actor driver;
  registry_actor registry;
  events_actor events;
  storage_actor storage;
  stats_actor stats;
  sleep_actor sleep;
  backup_actor backup;
  disposables_actor disposables;

  snapshot look() const { return {system.read(), machine.read(), &board}; }
};

using world_ptr = std::shared_ptr<world>;

} // namespace qubes::actors
