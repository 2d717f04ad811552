#include "drivers/io/file_system_kind.hpp"

#include "drivers/io/reason.hpp"
#include "drivers/io/unique_fd.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace qubes::drivers {

namespace {

struct mark {
  std::string_view name;
  std::size_t at;
  std::string_view bytes;
};

using namespace std::string_view_literals;

constexpr std::array marks{
    mark{"ext4", 0x438, "\x53\xEF"sv},         mark{"xfs", 0, "XFSB"sv},
    mark{"btrfs", 0x10040, "_BHRfS_M"sv},      mark{"squashfs", 0, "hsqs"sv},
    mark{"erofs", 1024, "\xE2\xE1\xF5\xE0"sv},
};

} // namespace

std::string_view file_system_of(std::string_view head) noexcept {
  for (auto& x : marks)
    if (head.size() >= x.at + x.bytes.size() && head.substr(x.at, x.bytes.size()) == x.bytes)
      return x.name;
  return {};
}

bool is_blank(std::string_view head) noexcept {
  return std::ranges::all_of(head, [](char c) { return c == '\0'; });
}

model::outcome<std::string> read_head(const std::string& path) {
  auto file = unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  auto head = std::string(file_system_head, '\0');
  auto size = std::size_t{0};
  while (file && size < head.size()) {
    auto n = ::pread(file.get(), head.data() + size, head.size() - size, static_cast<off_t>(size));
    if (n < 0 && errno == EINTR)
      continue;
    if (n == 0) {
      head.resize(size);
      return head;
    }
    if (n < 0)
      break;
    size += static_cast<std::size_t>(n);
  }
  if (size == head.size())
    return head;
  return model::fail(model::errc::storage, fmt::format("cannot read {}: {}", path, reason(errno)));
}

} // namespace qubes::drivers
