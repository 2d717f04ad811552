// drivers/backup: archives, written and read.
//
// Reads backups in Qubes' format 4 as a stream (spec/admin-api.md B8): a few chunks at a time are
// decrypted, and nothing of one is used before all of it is known to be genuine. Blocks.
#pragma once

#include "model/backup/backup_format.hpp"
#include "model/base/error.hpp"
#include "model/base/secret.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::drivers {

struct backup_reader_options {
  std::string scrypt = "scrypt";      ///< decrypts
  std::string temporary = "/var/tmp"; ///< a few chunks at a time
  unsigned at_once = 0;               ///< chunks that are decrypted at once; 0: one a processor
  std::uint64_t memory = 0; ///< bytes that scrypt may take in all, or for one alone; 0: half of all
  std::function<void(std::uint64_t)> tell{}; ///< bytes of the archive that are done with
};

/// What one file of a backup holds; of a directory's archive each entry in turn.
class file_sink {
public:
  virtual ~file_sink() = default;

  /// Before any data, with the length that the file will have.
  virtual model::outcome<void> begin(std::uint64_t size) = 0;
  /// In rising order; what is left out is zeros.
  virtual model::outcome<void> put(std::uint64_t at, std::string_view bytes) = 0;
  /// Once, when the whole file was genuine and complete, and has been put.
  virtual model::outcome<void> commit() = 0;
};

/// A small file, kept in memory.
class text_sink : public file_sink {
public:
  explicit text_sink(std::size_t largest) : largest_(largest) {}

  model::outcome<void> begin(std::uint64_t size) override;
  model::outcome<void> put(std::uint64_t at, std::string_view bytes) override;
  model::outcome<void> commit() override { return {}; }

  const std::string& text() const noexcept { return text_; }

private:
  std::size_t largest_;
  std::string text_;
};

/// A file as the archive has it.
struct archived_file {
  std::string name;        ///< "vm5/private.img"
  std::uint64_t bytes = 0; ///< of its chunks, encrypted
};

class backup_reader {
public:
  /// Proves the passphrase. `path` is a file, a block device, or "-" for standard input.
  static model::outcome<std::unique_ptr<backup_reader>> open(const std::string& path,
                                                             model::secret passphrase,
                                                             backup_reader_options with,
                                                             std::stop_token stop);
  virtual ~backup_reader() = default;

  virtual const model::backup_header& header() const = 0;

  /// The qubes.xml of the backup; once, before the files.
  virtual model::outcome<std::string> listing() = 0;

  /// What is in the archive besides, when that can be told before it is read.
  virtual model::outcome<std::optional<std::vector<archived_file>>> index() = 0;

  /// Where the data of a file goes; null when it is not wanted. Called in the order of the archive.
  using chooser = std::function<std::unique_ptr<file_sink>(const std::string& name)>;

  /// A file ended, for good or ill; from any thread.
  using ending = std::function<void(const std::string& name, const model::outcome<void>&)>;

  /// Reads the rest; several files may be on their way at once. What is wrong with one file is told
  /// by `ended` and does not stop the others; what is wrong with the archive ends it all.
  virtual model::outcome<void> read(const chooser& choose, const ending& ended) = 0;
};

/// What a restore or a check fails with once it is stopped.
inline model::error reading_cancelled() {
  return {model::errc::backup_cancelled, "cancelled", {}};
}

} // namespace qubes::drivers
