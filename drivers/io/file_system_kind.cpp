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

/// The second place is that of a disk with sectors of 4096 bytes.
constexpr std::array partition_marks{
    mark{"GPT", 512, "EFI PART"sv},
    mark{"GPT", 4096, "EFI PART"sv},
};
constexpr auto boot_record = mark{"MBR", 510, "\x55\xAA"sv};

bool has(std::string_view head, const mark& x) {
  return head.size() >= x.at + x.bytes.size() && head.substr(x.at, x.bytes.size()) == x.bytes;
}

template <class Marks>
std::string_view first_of(std::string_view head, const Marks& of) {
  auto found = std::ranges::find_if(of, [&](const mark& x) { return has(head, x); });
  return found == of.end() ? std::string_view{} : found->name;
}

/// Four entries, of which one or more are used; each is one to boot from or not. A boot record
/// without partitions has a program there.
bool lists_partitions(std::string_view boot_record) {
  constexpr auto table = std::size_t{446};
  constexpr auto entry = std::size_t{16};
  constexpr auto type = std::size_t{4};
  auto used = 0;
  for (auto at = table; at < table + 4 * entry; at += entry) {
    if (boot_record[at] != '\0' && boot_record[at] != '\x80')
      return false;
    used += boot_record[at + type] != '\0' ? 1 : 0;
  }
  return used > 0;
}

} // namespace

std::string_view file_system_of(std::string_view head) noexcept {
  return first_of(head, marks);
}

std::string_view partitions_of(std::string_view head) noexcept {
  if (auto table = first_of(head, partition_marks); !table.empty())
    return table;
  return has(head, boot_record) && lists_partitions(head) ? boot_record.name : std::string_view{};
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
