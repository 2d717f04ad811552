// Makes backups in Qubes' format 4: archives that tar, scrypt and the compressor alone can read
// (spec/admin-api.md B8). Blocks.
#pragma once

#include "model/base/error.hpp"
#include "model/base/secret.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <variant>
#include <vector>

namespace qubes::drivers {

/// What to make, and where to.
struct backup_order {
  std::string id;             ///< tells its pieces from those of other backups
  model::secret passphrase;   ///< one line
  std::string compression;    ///< a filter program and its options, "" for none
  std::string destination_vm; ///< a domain whose service takes it, "" for a file of this host
  std::string user;           ///< that the service runs as
  std::string path;           ///< a file or directory, there or here
  std::string file_name;      ///< in a directory
};

/// What everything fails with once a backup is stopped.
inline model::error backup_cancelled() {
  return {model::errc::backup_cancelled, "the backup was cancelled", {}};
}

/// How far a backup is, and whether to go on; both from any thread.
struct backup_watch {
  std::stop_token stop{};
  std::function<void(std::uint64_t bytes)> tell{}; ///< of data read since the last time
  std::function<void(const std::string&)> warn{};  ///< of what is not as it should be, and why
};

struct backup_part {
  struct text {
    std::string content;
    bool operator==(const text&) const = default;
  };
  /// Of a file or block device.
  struct image {
    std::string path;
    bool operator==(const image&) const = default;
  };
  /// Below the state directory; may be missing.
  struct state_file {
    std::string path;
    bool operator==(const state_file&) const = default;
  };
  /// A directory and all below it.
  struct tree {
    std::string path;
    bool operator==(const tree&) const = default;
  };

  std::string name; ///< in the archive
  std::variant<text, image, state_file, tree> holds;

  bool operator==(const backup_part&) const = default;
};

/// A backup that is being made. Dropped before `finish`, nothing is left of it, and a file it was
/// to replace is as before. Once stopped, everything fails with errc::backup_cancelled.
class backup {
public:
  virtual ~backup() = default;

  /// False when the part was not there. What cannot be opened is an error that leaves the backup as
  /// it was; any other error is its end.
  virtual model::outcome<bool> add(const backup_part& x) = 0;

  /// Once this succeeded, the backup is complete and on disk, or the service said so.
  virtual model::outcome<void> finish() = 0;
};

class backups {
public:
  virtual ~backups() = default;

  virtual model::outcome<std::unique_ptr<backup>> begin(const backup_order& x,
                                                        backup_watch watch) = 0;
};

struct backups_options {
  std::string state_directory;
  std::string qrexec_client;                  ///< "" for none
  std::string scrypt = "scrypt";              ///< encrypts
  std::string temporary = "/var/tmp";         ///< one chunk at a time
  std::size_t chunk = std::size_t{100} << 20; ///< bytes before encryption
};
std::shared_ptr<backups> open_backups(backups_options x);

} // namespace qubes::drivers
