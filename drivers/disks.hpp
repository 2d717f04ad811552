// The disks of whole domains: a directory and volumes in several pools, handled together. Blocks;
// thread-safe; the caller orders the work on one domain.
#pragma once

#include "model/error.hpp"
#include "model/storage_facts.hpp"
#include "model/system.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace qubes::drivers {

using model::outcome;

class command_runner;

class disks {
public:
  virtual ~disks() = default;

  /// The directory and all volumes, or nothing at all.
  virtual outcome<void> create(const model::system& all, const model::domain& x) = 0;

  /// All of them; goes on after a failure and reports the first.
  virtual outcome<void> remove(const model::system& all, const model::domain& x) = 0;

  virtual outcome<model::volume_facts> look(const model::system& all, const model::domain& x,
                                            const model::volume& it) = 0;

  /// Overwrites `to` with the last committed state of `from`; does nothing when `to` keeps nothing.
  virtual outcome<void> copy(const model::system& all, const model::volume& from,
                             const model::volume& to) = 0;

  virtual outcome<void> resize(const model::system& all, const model::volume& it,
                               std::uint64_t bytes) = 0;

  /// Overwrites it with `bytes` of zeros.
  virtual outcome<void> clear(const model::system& all, const model::volume& it,
                              std::uint64_t bytes) = 0;

  virtual outcome<void> revert(const model::system& all, const model::volume& it,
                               const std::string& revision) = 0;

  /// Where the data of an import is to be written by somebody else.
  virtual outcome<std::string> begin_import(const model::system& all, const model::volume& it,
                                            std::uint64_t bytes) = 0;

  /// Keeps what was written, or forgets it.
  virtual outcome<void> end_import(const model::system& all, const model::volume& it,
                                   bool keep) = 0;

  /// Prepares a pool that is about to be added.
  virtual outcome<void> set_up(const model::system& all, const model::pool& it) = 0;

  virtual outcome<model::pool_facts> look(const model::system& all, const model::pool& it) = 0;

  /// Ids of volumes that nobody may have: kernels. Others are known from the domains.
  virtual outcome<std::vector<std::string>> list(const model::system& all,
                                                 const model::pool& it) = 0;
};

/// The pools of this host; `state_directory` holds the directories of the domains, `commands` runs
/// the programs that drivers need.
std::shared_ptr<disks> open_disks(std::string state_directory,
                                  std::shared_ptr<command_runner> commands);

} // namespace qubes::drivers
