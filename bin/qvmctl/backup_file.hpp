// A backup that a command reads: opened, proven, and the domains in it.
#pragma once

#include "bin/qvmctl/commands.hpp"
#include "bin/qvmctl/interruption.hpp"
#include "bin/qvmctl/progress.hpp"
#include "drivers/backup/backup_reader.hpp"
#include "model/xml/backup_listing.hpp"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::ctl {

failure failure_of(const model::error& why);
model::error error_of(const failure& why);

class backup_file {
public:
  /// Asks for the passphrase. `what` is said of the progress that is shown.
  static expected<std::unique_ptr<backup_file>>
  open(session& s, const std::string& path, std::string_view what, const interruption& stop);

  const model::backup_header& header() const { return reader_->header(); }
  const std::vector<model::xml::listed_domain>& domains() const noexcept { return domains_; }
  const model::xml::listed_domain* find(std::string_view name) const;

  /// The domain whose file that is; null for none.
  const model::xml::listed_domain* owner(std::string_view file) const;

  /// Sizes of all files as they are in the archive; nothing when it cannot be gone back in.
  const std::optional<std::map<std::string, std::uint64_t>>& sizes() const noexcept {
    return sizes_;
  }

  /// What a domain should have and is not there, as far as that is known: "vm5/private.img".
  std::string missing(const model::xml::listed_domain& of) const;

  /// Shows how far the reading is; `total` is 0 when that is not known.
  model::outcome<void> read(const drivers::backup_reader::chooser& choose,
                            const drivers::backup_reader::ending& ended, std::uint64_t total);

private:
  std::unique_ptr<drivers::backup_reader> reader_;
  std::vector<model::xml::listed_domain> domains_;
  std::optional<std::map<std::string, std::uint64_t>> sizes_;
  std::unique_ptr<progress> shown_;
};

/// The last part of a path.
std::string_view base_name(std::string_view path);

/// "vm5/private.img"
std::string image_of(const model::xml::listed_domain& x, std::string_view volume);

} // namespace qubes::ctl
