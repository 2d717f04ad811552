// Writes a tar archive piece by piece. Blocks; a volume is never held in memory.
#pragma once

#include "drivers/backup/fed_program.hpp"
#include "model/base/error.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

struct archive;
struct archive_entry;
struct archive_entry_linkresolver;

namespace qubes::drivers {

class tar_writer {
public:
  enum class dialect {
    plain,  ///< what any tar has read for thirty years
    sparse, ///< POSIX with GNU's holes
  };
  /// Told how many bytes of data were read.
  using progress = std::function<void(std::uint64_t)>;

  /// Told of what is not in the archive, or not as it is now, with its path and the reason.
  using warning = std::function<void(const std::string&)>;

  tar_writer(dialect how, byte_sink to, std::stop_token stop, progress tell = {},
             warning warn = {});
  ~tar_writer();
  tar_writer(const tar_writer&) = delete;
  tar_writer& operator=(const tar_writer&) = delete;

  model::outcome<void> add_text(const std::string& name, std::string_view text);

  /// The data of an open file or block device as a file `name`; `path` is for errors.
  model::outcome<void> add_file(const std::string& name, int file, const std::string& path);

  /// A directory and all below it but sockets, links as links. It may change meanwhile: what comes,
  /// goes or turns into something else costs a warning.
  model::outcome<void> add_tree(const std::string& name, const std::string& path);

  model::outcome<void> end();

private:
  using entry_ptr = std::unique_ptr<archive_entry, void (*)(archive_entry*)>;

  model::outcome<void> add_below(const std::string& name, const std::string& path);
  model::outcome<bool> add_node(const std::string& name, const std::string& path);
  model::outcome<void> add_regular(const std::string& name, const std::string& path);
  model::outcome<void> pass_over(const std::string& path, int code);
  void warn(const std::string& path, std::string_view why) const;
  model::outcome<void> write_header(archive_entry* entry);
  model::outcome<void> write_data(archive_entry* entry, int file, const std::string& path);
  model::outcome<void> map_data(archive_entry* entry, int file, const std::string& path);
  model::outcome<void> copy(int file, std::int64_t from, std::int64_t to, const std::string& path);
  model::outcome<void> skip(std::int64_t bytes);
  model::outcome<void> write(const char* data, std::size_t size);
  model::outcome<void> checked(std::int64_t code);
  static long take(archive*, void* me, const void* data, std::size_t size);

  archive* archive_;
  archive_entry_linkresolver* links_;
  byte_sink to_;
  std::stop_token stop_;
  progress tell_;
  warning warn_;
  std::optional<model::error> failure_; ///< of the sink
  std::unique_ptr<char[]> buffer_;
};

} // namespace qubes::drivers
