// What libxl wrote of a start that failed: libvirt's own error only says that it did. libvirt keeps
// a log for each domain, and one for messages that name none.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace qubes::drivers {

/// The first few things that libxl complains of in this part of a log, without its source
/// positions, as one line of printable ASCII; empty for none.
std::string libxl_complaints(std::string_view log);

/// The end of a log before a call, to see what the call adds.
class libxl_log {
public:
  explicit libxl_log(std::string path);

  const std::string& path() const { return path_; }

  /// What was added; empty where there is no log. Blocks on the disk.
  std::string complaints() const;

private:
  std::string path_;
  std::uint64_t end_ = 0;
};

} // namespace qubes::drivers
