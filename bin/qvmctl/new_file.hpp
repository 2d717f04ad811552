// A file that is there whole or not at all; a power cut leaves a part on file systems that know no
// file without a name.
#pragma once

#include "bin/qvmctl/client.hpp"
#include "bin/qvmctl/interruption.hpp"
#include "drivers/io/unique_fd.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace qubes::ctl {

/// Dropped before `keep`, nothing is left of it.
class new_file {
public:
  /// Refuses what is there already. "-" is standard output, which gets all bytes in their order.
  static expected<std::unique_ptr<new_file>> open(std::string path, interruption& stop);
  /// Whether it could be made, as far as that can be told without.
  static expected<void> check(const std::string& path);
  ~new_file();
  new_file(const new_file&) = delete;
  new_file& operator=(const new_file&) = delete;

  /// Parts come in their order; what is not written is zeros.
  expected<void> write(std::uint64_t at, std::string_view bytes);

  /// With so many bytes, durable, under its name.
  expected<void> keep(std::uint64_t size);

private:
  new_file(std::string path, interruption& stop) : path_(std::move(path)), stop_(stop) {}

  bool is_stream() const { return path_ == "-"; }
  failure cannot(std::string_view what) const;
  expected<void> create();
  expected<void> put(std::string_view bytes);
  expected<void> put_zeros_until(std::uint64_t at);

  std::string path_;
  interruption& stop_;
  drivers::unique_fd file_;
  bool named_ = false; ///< already, where the file system knows no other way
  std::uint64_t sent_ = 0;
};

} // namespace qubes::ctl
