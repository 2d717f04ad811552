// Data on its way out of a volume.
#pragma once

#include "bin/qvmctl/client.hpp"
#include "bin/qvmctl/interruption.hpp"
#include "drivers/io/unique_fd.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace qubes::ctl {

/// The last committed state of a volume, which the daemon keeps as it is for as long as this is
/// there.
class volume_export {
public:
  /// In dom0 only, where the data is.
  static expected<void> check(const route& way);
  static expected<std::unique_ptr<volume_export>> begin(const route& way, const std::string& domain,
                                                        const std::string& volume,
                                                        const interruption& stop);

  volume_export(const volume_export&) = delete;
  volume_export& operator=(const volume_export&) = delete;

  std::uint64_t size() const noexcept { return size_; }

  /// Where data begins, from there on; the size where there is no more.
  std::uint64_t next_data(std::uint64_t from) const;

  /// Fills as much of it as there is.
  expected<std::size_t> read(std::uint64_t at, char* to, std::size_t most) const;

  /// Whether what was read is one state: the daemon has kept it until now.
  expected<void> was_kept();

private:
  explicit volume_export(const route& way);

  client daemon_;
  std::optional<std::string> path_;
  std::optional<failure> ended_;
  drivers::unique_fd file_;
  std::uint64_t size_ = 0;
  listener here_;
};

} // namespace qubes::ctl
