#include "bin/qvmctl/sparse_write.hpp"

#include <unistd.h>

#include <cerrno>

namespace qubes::ctl {

namespace {

bool is_zero(std::string_view data) {
  return data.find_first_not_of('\0') == std::string_view::npos;
}

} // namespace

bool write_sparse(int file, std::uint64_t at, std::string_view bytes) {
  constexpr auto part = std::size_t{1} << 17;
  while (!bytes.empty()) {
    auto now = bytes.substr(0, part);
    if (!is_zero(now)) {
      auto written = ::pwrite(file, now.data(), now.size(), static_cast<off_t>(at));
      if (written < 0 && errno == EINTR)
        continue;
      if (written <= 0)
        return false;
      now = now.substr(0, static_cast<std::size_t>(written));
    }
    at += now.size();
    bytes.remove_prefix(now.size());
  }
  return true;
}

} // namespace qubes::ctl
