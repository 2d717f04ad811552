// The root: composes the runtime, starts it in order, watches over it, and stops it in order.
#pragma once

#include "actors/api/events.hpp"
#include "actors/api/gate.hpp"
#include "actors/common/world.hpp"
#include "actors/driver/driver.hpp"
#include "actors/storage/storage.hpp"
#include "actors/storage/store.hpp"
#include "drivers/backup/backups.hpp"

#include <functional>
#include <memory>

namespace qubes::actors {

/// What the runtime is made of; all of it can be a fake.
struct parts {
  actors::settings settings;
  model::host machine;
  std::shared_ptr<store_file> files;
  actors::machinery machinery;
  std::shared_ptr<drivers::disks> disks;
  std::shared_ptr<drivers::backups> backups;
  frame_sink to_clients;
  std::function<std::int64_t()> now_us;
  std::function<std::int64_t()> wall_us;
  std::function<std::uint64_t()> chance;
  std::string hypervisor_uri;
  std::string containers_uri{}; ///< "" for none
  std::string store_path;
};

class runtime {
public:
  /// Reads qubes.xml and spawns all actors; none acts yet. Fails when there is no usable file.
  static model::outcome<std::unique_ptr<runtime>> open(caf::actor_system& in, parts with);

  /// Ends the actors that are still there.
  ~runtime();

  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;

  /// Spawns the domains and connects to the hypervisor. `ready` runs in an actor once the truth
  /// about every domain is known, or known to be out of reach.
  void start(std::function<void()> ready);

  /// Whether each part that a request passes through answers within `limit`. Waits for the answers.
  bool answers(std::chrono::milliseconds limit);

  /// Waits for what was acknowledged, at most `limit`; then ends all actors. Running domains go on.
  void stop(std::chrono::milliseconds limit);

  /// Ends all actors without waiting, as a crash of the daemon would.
  void abandon();

  const world_ptr& world() const noexcept { return world_; }
  const gate_actor& gate() const noexcept { return gate_; }

private:
  explicit runtime(caf::actor_system& in) : system_(in) {}

  caf::actor_system& system_;
  world_ptr world_;
  gate_actor gate_;
  caf::actor watcher_;
  bool ended_ = false;
};

} // namespace qubes::actors
