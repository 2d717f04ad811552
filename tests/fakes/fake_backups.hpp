// tests/fakes: what stands for the hypervisor, guests, disks and their failures.
// Backups that only note what a real backup would hold; for tests and the simulation.
#pragma once

#include "drivers/backup/backups.hpp"

#include <mutex>
#include <optional>

namespace qubes::drivers {

class fake_backups final : public backups {
public:
  struct made {
    backup_order order;
    std::vector<backup_part> parts;
    bool finished = false;
    bool dropped = false; ///< ended without `finish`
  };
  /// Asked before every step: the name of the part, "" for the beginning, "finish" for the end. An
  /// error is the step's outcome.
  using script = std::function<std::optional<model::error>(const std::string& step)>;

  model::outcome<std::unique_ptr<backup>> begin(const backup_order& x, backup_watch watch) override;

  void set_script(script fate);

  /// Files of the state directory that are there.
  void set_files(std::vector<std::string> names);

  /// All backups that were begun, in order.
  std::vector<made> all() const;

private:
  class one;
  model::outcome<void> admit(const std::string& step, const backup_watch& watch) const;

  mutable std::mutex guard_;
  script fate_;
  std::vector<std::string> files_;
  std::vector<made> all_;
};

} // namespace qubes::drivers
