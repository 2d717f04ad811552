// Files and directories as the storage drivers need them: errors name the path and the remedy.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::drivers::storage {

using model::outcome;

/// What waits for the disk, and what a power cut may take back or fill with zeros: scratch space,
/// and what is synced before it is relied on.
enum class lasting { yes, no };

/// errc::storage: "cannot WHAT 'PATH': reason"; a full file system gets a hint.
tl::unexpected<model::error> cannot(std::string_view what, const std::string& path,
                                    int code = errno);

/// Never through a symbolic link. A new file can be read by its owner alone.
outcome<unique_fd> open_file(const std::string& path, int flags);

/// For data to be read: a file or a block device, also through the links that devices have.
outcome<unique_fd> open_source(const std::string& path);

/// For data to be written to what is there already.
outcome<unique_fd> open_target(const std::string& path);

/// Of a file or a block device, in bytes.
outcome<std::uint64_t> size_of(int file, const std::string& path);

/// Nothing unless the path is a plain file.
std::optional<struct ::stat> facts_of(const std::string& path);

/// As a plain file.
bool exists(const std::string& path);

outcome<void> sync_file(int file, const std::string& path);

/// Makes names in the directory of `path` durable.
outcome<void> sync_directory_of(const std::string& path);

/// Gone already is fine.
outcome<void> remove_file(const std::string& path);

/// Both paths in one directory, which is synced if the new name has to last.
outcome<void> rename_file(const std::string& from, const std::string& to, lasting x = lasting::yes);

/// Being there already is fine.
outcome<void> make_directory(const std::string& path);

/// Names of the entries of a directory, sorted; none when it is not there.
outcome<std::vector<std::string>> names_in(const std::string& directory);

} // namespace qubes::drivers::storage
