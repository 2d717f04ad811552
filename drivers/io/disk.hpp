// The few file operations the store needs, named after what they promise. Paths are relative to
// the disk's directory. Errors are `errc::store` with the system's reason and the file's name.
#pragma once

#include "model/base/error.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace qubes::drivers {

using model::outcome;

/// Tells whether a file is still the one we know: changes with every foreign write.
struct file_stamp {
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t modified_ns = 0;

  bool operator==(const file_stamp&) const = default;
};

class disk {
public:
  virtual ~disk() = default;

  /// Nothing when the file is missing; a link that leads nowhere is an error, since a file was
  /// meant to be there. `limit` bounds what is read; longer files are an error.
  virtual outcome<std::optional<std::string>> read(const std::string& name, std::size_t limit) = 0;

  /// Nothing when the file is missing.
  virtual outcome<std::optional<file_stamp>> stamp(const std::string& name) = 0;

  /// Creates or truncates; mode 0660, group `qubes` where it exists. Not yet safe.
  virtual outcome<void> write(const std::string& name, const std::string& bytes) = 0;

  /// Makes the bytes of a file survive a power cut.
  virtual outcome<void> sync(const std::string& name) = 0;

  virtual outcome<void> rename(const std::string& from, const std::string& to) = 0;

  /// A second name for the same bytes; replaces nothing.
  virtual outcome<void> link(const std::string& from, const std::string& to) = 0;

  /// Missing is fine.
  virtual outcome<void> remove(const std::string& name) = 0;

  /// Makes renames, links and removals in the directory of `name` survive a power cut.
  virtual outcome<void> sync_names(const std::string& name) = 0;

  /// File names in a directory, sorted; missing is empty.
  virtual outcome<std::vector<std::string>> list(const std::string& directory) = 0;

  /// Missing parents included; existing is fine.
  virtual outcome<void> make_directory(const std::string& name) = 0;
};

/// Files below `directory`.
std::unique_ptr<disk> open_disk(std::string directory);

/// Replaces a file so that a crash at any point leaves the old or the new one, and success means
/// the new one stays. A failure leaves the old one and no leftovers where the disk allows.
outcome<void> replace(disk& where, const std::string& name, const std::string& bytes);

} // namespace qubes::drivers
