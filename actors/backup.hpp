// Backup: what a profile's backup would hold, and how large it would be.
#pragma once

#include "actors/reply.hpp"
#include "actors/world.hpp"
#include "model/backup_profile.hpp"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace qubes::actors {

class backup_state {
public:
  static inline const char* name = "backup";

  explicit backup_state(backup_actor::pointer self) : self(self) {}

  backup_actor::behavior_type make(world_ptr in);

private:
  /// Domains being measured, one after the other.
  struct inventory {
    model::system_ptr system;
    std::vector<std::pair<std::string, std::uint64_t>> sizes; ///< domain -> bytes
    std::size_t at = 0;
  };
  using inventory_ptr = std::shared_ptr<inventory>;

  void obey(const order& x, const reply& to);
  void with_profile(const std::string& id, const reply& to,
                    std::function<void(const model::backup_profile&)> then);
  void tell(const model::backup_profile& x, const reply& to);
  void measure(const inventory_ptr& all, const reply& to);
  void measure_volumes(const inventory_ptr& all, std::vector<std::string> volumes, const reply& to);
  void measure_files(const inventory_ptr& all, const reply& to);
  void refuse_to_run(const model::backup_profile& x, const reply& to);

  backup_actor::pointer self;
  world_ptr world_;
};

backup_actor::behavior_type backup(backup_actor::stateful_pointer<backup_state> self, world_ptr in);

} // namespace qubes::actors
