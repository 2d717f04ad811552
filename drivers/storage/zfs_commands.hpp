// Datasets by the commands of ZFS (spec/storage.md §7). Names are POOL/PATH, snapshots'
// POOL/PATH@NAME.
#pragma once

#include "drivers/storage/tool.hpp"

#include <map>
#include <memory>

namespace qubes::drivers::storage {

struct zfs_snapshot {
  std::string name;                ///< without what it is a snapshot of
  std::uint64_t order = 0;         ///< later ones have more
  bool removed = false;            ///< removed already; here only as long as clones need it
  std::vector<std::string> clones; ///< datasets that began as it
};

struct zfs_dataset {
  std::uint64_t size = 0;              ///< bytes the guest sees
  std::uint64_t usage = 0;             ///< bytes it holds
  std::string origin;                  ///< the snapshot it began as
  bool dirty = false;                  ///< started and not stopped
  std::vector<zfs_snapshot> snapshots; ///< oldest first
};

/// By name.
using zfs_listing = std::map<std::string, zfs_dataset, std::less<>>;

/// The output of `zfs list` with the columns that are asked for here.
outcome<zfs_listing> parse_zfs_list(const std::string& text);

struct zpool_size {
  std::uint64_t size = 0;
  std::uint64_t usage = 0;
};

/// Thread-safe.
class zfs_commands {
public:
  /// For what is below the dataset `container`.
  zfs_commands(std::string container, const environment& with);

  /// As after the last change that came from here; never older than 30 s.
  outcome<std::shared_ptr<const zfs_listing>> list();
  outcome<zpool_size> size();

  /// The container is there and known as one of ours, also to udev.
  outcome<void> set_up();

  /// The device is there as well, when these return. `passing`: snapshots of it are not needed.
  outcome<void> create(const std::string& name, std::uint64_t bytes, bool passing);
  outcome<void> clone(const std::string& snapshot, const std::string& name, bool passing);
  outcome<void> rename(const std::string& from, const std::string& to);

  outcome<void> snapshot(const std::string& name);
  /// Later snapshots go.
  outcome<void> roll_back(const std::string& snapshot);
  outcome<void> resize(const std::string& name, std::uint64_t bytes);
  outcome<void> set_dirty(const std::string& name, bool on);
  outcome<void> set_read_only(const std::string& name, bool on);

  /// The clone and what it began as change their parts; earlier snapshots go to the clone.
  outcome<void> promote(const std::string& clone);
  /// A dataset with all below it. Clones of its snapshots inherit what they need of them.
  outcome<void> destroy(const std::string& name);
  /// At once, or when the snapshot's last clone goes.
  outcome<void> destroy_snapshot(const std::string& name);
  /// Only a dataset that holds nothing.
  void destroy_empty(const std::string& name);

  /// The data of a file or device, without the zeros, to a volume of zeros.
  outcome<void> fill(const std::string& name, const std::string& path);

  static std::string device(const std::string& name) { return "/dev/zvol/" + name; }

private:
  outcome<void> patiently(const std::vector<std::string>& words);
  outcome<void> with_device(const std::vector<std::string>& words, const std::string& name);

  const std::string container_;
  const std::function<std::time_t()> now_;
  const std::function<bool(const std::string&)> is_there_;
  const std::function<void(std::chrono::milliseconds)> pause_;
  tool tool_;
  report<zfs_listing> list_;
  report<zpool_size> size_;
};

/// Whether ZFS refused for this reason.
bool has_dependent_clones(const model::error& x);
bool has_clones_in_the_way(const model::error& x); ///< of a roll-back

} // namespace qubes::drivers::storage
