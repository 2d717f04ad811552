// drivers/storage: the disks of domains, a driver for each kind of pool.
//
// The disks of domains: a directory, and volumes in several pools. Blocks; thread-safe; the caller
// orders the work on one volume. No call waits for another pool than those it is about. Work whose
// command had to be killed at its deadline ends with errc::storage_stuck.
#pragma once

#include "drivers/storage/pool.hpp"
#include "drivers/storage/removal_notes.hpp"
#include "model/base/error.hpp"
#include "model/system/host.hpp"
#include "model/system/storage_facts.hpp"
#include "model/system/system.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace qubes::drivers {

using model::outcome;
using storage::supervision;

class disks {
public:
  virtual ~disks() = default;

  // -- a domain's directory ---------------------------------------------------------------------

  /// The directory must not be there; a disposable's gets its template's firewall. Notes its
  /// removal first: that is forgotten when the domain has a record.
  virtual outcome<void> make_home(const model::system& all, const model::domain& x) = 0;
  /// Also removes the note of the domain's removal. The directory is found by name: the caller
  /// knows that it is this domain's.
  virtual outcome<void> remove_home(const model::domain& x) = 0;

  /// Before a domain's record goes: all it has will be removed, also by a daemon that comes after
  /// this one. Notes are of a uuid: another domain of that name neither has one nor loses one.
  virtual outcome<void> note_removal(const model::domain& x) = 0;
  /// The domain stays after all.
  virtual outcome<void> forget_removal(const model::domain& x) = 0;
  /// Domains whose removal was noted, and not ended: with their volumes.
  virtual outcome<noted_removals> removals() = 0;

  // -- a volume's life --------------------------------------------------------------------------

  virtual outcome<void> create(const model::system& all, const model::domain& owner,
                               const model::volume& it) = 0;

  /// Also while the volume is started; what its guest wrote is not committed first.
  virtual outcome<void> remove(const model::system& all, const model::domain& owner,
                               const model::volume& it) = 0;

  virtual outcome<void> verify(const model::system& all, const model::domain& owner,
                               const model::volume& it) = 0;

  /// Returns the device for the guest; encrypts what is ephemeral. A failure leaves the volume
  /// stopped.
  virtual outcome<std::string> start(const model::system& all, const model::domain& owner,
                                     const model::volume& it, const supervision& watch) = 0;

  /// Commits or discards. Fine for a volume that is stopped, and after a crash.
  virtual outcome<void> stop(const model::system& all, const model::domain& owner,
                             const model::volume& it, const supervision& watch) = 0;

  // -- a volume's data --------------------------------------------------------------------------

  virtual outcome<model::volume_facts> look(const model::system& all, const model::domain& x,
                                            const model::volume& it) = 0;

  /// Overwrites `to` with the last committed state of `from`; does nothing when `to` keeps nothing.
  virtual outcome<void> copy(const model::system& all, const model::volume& from,
                             const model::volume& to, const supervision& watch) = 0;

  virtual outcome<void> resize(const model::system& all, const model::volume& it,
                               std::uint64_t bytes, const supervision& watch) = 0;

  /// Overwrites a volume with `bytes` of zeros.
  virtual outcome<void> clear(const model::system& all, const model::volume& it,
                              std::uint64_t bytes, const supervision& watch) = 0;

  virtual outcome<void> revert(const model::system& all, const model::volume& it,
                               const std::string& revision, const supervision& watch) = 0;

  /// Where the data of an import is to be written by another program. Refused when `announced`
  /// bytes are more than the pool has room for; data of unknown size is taken.
  virtual outcome<std::string> begin_import(const model::system& all, const model::volume& it,
                                            std::uint64_t bytes,
                                            std::optional<std::uint64_t> announced) = 0;

  /// Keeps what was written, or forgets it.
  virtual outcome<void> end_import(const model::system& all, const model::volume& it, bool keep,
                                   const supervision& watch) = 0;

  /// Where the last committed state can be read, until `end_export`.
  virtual outcome<std::string> begin_export(const model::system& all, const model::volume& it) = 0;
  virtual outcome<void> end_export(const model::system& all, const model::volume& it,
                                   const std::string& path) = 0;

  // -- pools ------------------------------------------------------------------------------------

  /// Prepares a pool that is about to be added. Returns what callback pools work with by now.
  virtual outcome<model::callback_pools> set_up(const model::system& all,
                                                const model::pool& it) = 0;

  virtual outcome<model::pool_facts> look(const model::system& all, const model::pool& it) = 0;

  /// Ids that no volume of a domain may have: kernels. Others are known from the domains.
  virtual outcome<std::vector<std::string>> list(const model::system& all,
                                                 const model::pool& it) = 0;
};

/// The pools of this host.
struct disks_options {
  std::string state_directory; ///< of the domains' directories
  std::string run_directory;   ///< of the files that say which volumes are running
  storage::environment machine;
  std::chrono::milliseconds command_limit{180000}; ///< a command that takes longer is stuck
};
std::shared_ptr<disks> open_disks(disks_options x);

} // namespace qubes::drivers
