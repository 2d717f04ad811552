// A file that becomes visible under its name only when it is whole.
#pragma once

#include "drivers/io/files.hpp"
#include "drivers/io/unique_fd.hpp"
#include "drivers/storage/pool.hpp"

namespace qubes::drivers::storage {

/// A file written as `PATH~...` beside its place; removed unless it is kept.
class draft_file {
public:
  static outcome<draft_file> create(std::string path);

  draft_file(draft_file&& other) noexcept;
  draft_file& operator=(draft_file&&) = delete;
  ~draft_file();

  int get() const { return file_.get(); }

  outcome<void> resize(std::uint64_t bytes);

  /// Shares blocks with `source`; false when that cannot be.
  outcome<bool> share_with(const std::string& source);

  /// Shares blocks with `source`, or copies its data.
  outcome<void> fill_from(const std::string& source, const supervision& watch);

  /// The time of change that the file will be seen with.
  outcome<void> stamp(const struct ::timespec& changed);

  /// Durable under its own name, replacing what was there.
  outcome<void> keep();

  /// As `keep`, without waiting for the disk: a crash may take the file back, or leave zeros in it.
  outcome<void> show();

  outcome<void> sync();

private:
  draft_file(std::string path, std::string name);

  std::string path_;
  std::string name_; ///< "" once it is kept
  unique_fd file_;
};

/// A sparse file of zeros.
outcome<void> make_empty(const std::string& path, std::uint64_t bytes, lasting x = lasting::yes);

/// A copy of an image; `bytes` gives it another size.
outcome<void> make_copy(const std::string& from, const std::string& to, const supervision& watch,
                        std::optional<std::uint64_t> bytes = {}, lasting x = lasting::yes);

} // namespace qubes::drivers::storage
