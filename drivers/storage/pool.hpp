// A storage pool as its driver implements it (spec/storage.md §2, §3). Every call blocks. The
// caller orders the work on one volume; calls for different volumes may come at the same time.
#pragma once

#include "drivers/host/host_facts.hpp"
#include "model/base/error.hpp"
#include "model/system/storage_facts.hpp"
#include "model/system/system.hpp"

#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace qubes::drivers {
class command_runner;
}

namespace qubes::drivers::storage {

using model::outcome;

/// Long work says how far it is, in bytes, and ends early when it is asked to stop.
struct supervision {
  std::stop_token stop{};
  std::function<void(std::uint64_t done, std::uint64_t of)> tell{};
};

/// A volume of a pool, as one call sees it.
struct volume {
  model::volume it;                      ///< the volume's configuration
  std::optional<model::volume> origin{}; ///< what its snapshots are taken from, in the same pool
  std::string owner{};                   ///< name of the domain that has it
  supervision watch{};
};

/// lvm_thin and zfs go through most calls in the same order, and each writes it out: what they look
/// at, refuse and undo in between is not the same, and a step is safe or not for each of them
/// alone.
class pool {
public:
  virtual ~pool() = default;

  // -- the pool itself --------------------------------------------------------------------------

  /// Prepares a pool that is about to be added; leaves nothing behind when it fails.
  virtual outcome<void> set_up() = 0;

  /// Size, usage and their details; `included_in` belongs to the caller.
  virtual outcome<model::pool_facts> facts() = 0;

  /// Ids of volumes that are there although no domain has them, sorted.
  virtual outcome<std::vector<std::string>> list();

  // -- a volume's life --------------------------------------------------------------------------

  /// Once, before anything else; refuses to touch data that is there already.
  virtual outcome<void> create(const volume& x) = 0;

  /// Removes all data of a volume, revisions included; what is gone already is fine.
  virtual outcome<void> remove(const volume& x) = 0;

  /// What a start will need is there.
  virtual outcome<void> verify(const volume& x) = 0;

  /// Prepares the device. After a crash the volume goes on with what the guest has written.
  virtual outcome<void> start(const volume& x) = 0;

  /// Commits what is saved, discards the rest. Does nothing to a volume that is stopped; finishes
  /// what a crash interrupted.
  virtual outcome<void> stop(const volume& x) = 0;

  /// A stop before a removal: no guest has its device any more, and what the guest wrote need not
  /// be kept.
  virtual outcome<void> abandon(const volume& x) { return stop(x); }

  /// Whether the volume was started and not stopped: what the guest wrote is not committed.
  virtual bool is_dirty(const volume& x) = 0;

  /// Size, usage, device, revisions, and whether a snapshot's origin has a newer committed state.
  virtual outcome<model::volume_facts> look(const volume& x) = 0;

  /// The device or image that the guest gets.
  virtual std::string device(const volume& x) = 0;

  // -- a volume's data --------------------------------------------------------------------------

  /// A readable path of the last committed state, until `end_export`; also while its domain runs,
  /// where the driver can.
  virtual outcome<std::string> begin_export(const volume& x) = 0;
  virtual void end_export(const volume& x, const std::string& path);

  /// A path to `bytes` of zeros that another program writes the new data to.
  virtual outcome<std::string> begin_import(const volume& x, std::uint64_t bytes) = 0;

  /// Commits what was written there, or forgets it.
  virtual outcome<void> end_import(const volume& x, bool keep) = 0;

  /// Overwrites `to` with the last committed state of `from`, a volume of any pool. By default an
  /// export is copied sparsely into an import.
  virtual outcome<void> import_volume(const volume& to, pool& home, const volume& from);

  /// Grows a volume, also while its domain runs.
  virtual outcome<void> resize(const volume& x, std::uint64_t bytes) = 0;

  /// The named revision becomes the committed state.
  virtual outcome<void> revert(const volume& x, const std::string& revision) = 0;

  /// Overwrites a volume with `bytes` of zeros. By default an import without a writer.
  virtual outcome<void> clear(const volume& x, std::uint64_t bytes);
};

/// Whatever kind of file is there.
bool path_exists(const std::string& path);

/// What drivers need of the machine beside files.
struct environment {
  std::shared_ptr<command_runner> commands;
  std::function<std::time_t()> now = [] { return std::time(nullptr); }; ///< wall clock
  std::string callbacks = "/etc/qubes_callback.json"; ///< configurations of callback pools
  std::string mapper = "/dev/mapper";                 ///< where the device mapper shows its devices
  std::function<bool(const std::string&)> is_there = path_exists; ///< of devices that udev makes
  std::function<void(std::chrono::milliseconds)> pause = [](auto x) {
    std::this_thread::sleep_for(x);
  };
  std::function<std::uint64_t()> random = random_number;
};

/// Refuses data of `bytes` that the pool has no room for, with the bytes needed and free. A pool
/// that does not know its size is taken at its word later.
outcome<void> check_room(pool& in, const volume& x, std::uint64_t bytes);

/// Lets `use` read the last committed state of `from`, a volume of `home`, when `to` has room for
/// it: what is known of it, and a path until `use` returns.
outcome<void> read_export(
    pool& in, const volume& to, pool& home, const volume& from,
    const std::function<outcome<void>(const model::volume_facts&, const std::string&)>& use);

/// Before new data is committed: its asker may have been told that it failed.
outcome<void> check_wanted(const volume& x);

/// `x` as a refusal when this driver has no such operation.
tl::unexpected<model::error> not_implemented(const volume& x, std::string_view operation);

} // namespace qubes::drivers::storage
