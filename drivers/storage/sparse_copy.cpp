#include "drivers/storage/sparse_copy.hpp"

#include "drivers/io/files.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace qubes::drivers::storage {

namespace {

constexpr auto block = std::size_t{1} << 20;
constexpr auto hole = std::size_t{64} << 10; ///< zeros of this length are left out

outcome<void> write_all(int to, const char* data, std::size_t size, off_t at,
                        const std::string& path) {
  while (size > 0) {
    auto put = ::pwrite(to, data, size, at);
    if (put < 0 && errno == EINTR)
      continue;
    if (put < 0)
      return cannot("write", path);
    data += put;
    at += put;
    size -= static_cast<std::size_t>(put);
  }
  return {};
}

/// Runs of data in one piece, zeros left out.
outcome<void> write_data(int to, const char* data, std::size_t size, off_t at,
                         const std::string& path) {
  auto written = std::size_t{0};
  auto write_up_to = [&](std::size_t end) {
    return write_all(to, data + written, end - written, at + static_cast<off_t>(written), path);
  };
  for (auto begin = std::size_t{0}; begin < size;) {
    auto end = std::min(begin + hole, size);
    if (is_zero(data + begin, end - begin)) {
      if (auto done = write_up_to(begin); !done)
        return done;
      written = end;
    }
    begin = end;
  }
  return write_up_to(size);
}

/// Better refused before than half-way; what a device holds is not known.
outcome<void> check_room(int from, int to, const std::string& path) {
  struct ::stat facts {};
  struct ::statvfs room {};
  if (::fstat(from, &facts) != 0 || ::fstatvfs(to, &room) != 0 || S_ISBLK(facts.st_mode))
    return {};
  auto needed = static_cast<std::uint64_t>(facts.st_blocks) * 512;
  auto free = std::uint64_t{room.f_bavail} * room.f_frsize;
  if (needed <= free)
    return {};
  return model::fail(
      model::errc::storage,
      fmt::format("a copy for '{}' needs {} bytes and {} are free", path, needed, free),
      "make room on its file system");
}

} // namespace

bool is_zero(const char* data, std::size_t size) {
  return size == 0 || (data[0] == 0 && std::memcmp(data, data + 1, size - 1) == 0);
}

outcome<std::optional<extent>> next_data(int from, off_t at, off_t size, const std::string& path) {
  if (at >= size)
    return std::nullopt;
  auto begin = ::lseek(from, at, SEEK_DATA);
  if (begin < 0 && errno == ENXIO)
    return std::nullopt;
  if (begin < 0 && errno == EINVAL)
    return extent{at, size};
  auto end = begin < 0 ? begin : ::lseek(from, begin, SEEK_HOLE);
  if (end < 0)
    return cannot("read", path);
  return extent{begin, std::min(end, size)};
}

outcome<void> sparse_copy(int from, int to, const std::string& path, const supervision& watch) {
  auto bytes = size_of(from, path);
  if (!bytes)
    return tl::unexpected{std::move(bytes.error())};
  auto size = static_cast<off_t>(*bytes);
  auto buffer = std::unique_ptr<char[]>{};
  for (auto at = off_t{0};;) {
    auto data = next_data(from, at, size, path);
    if (!data)
      return tl::unexpected{std::move(data.error())};
    if (!*data)
      break;
    if (!buffer)
      buffer = std::make_unique_for_overwrite<char[]>(block);
    for (at = (*data)->begin; at < (*data)->end;) {
      if (watch.stop.stop_requested())
        return model::fail(model::errc::storage, fmt::format("copying to '{}' was stopped", path));
      auto most = std::min(static_cast<off_t>(block), (*data)->end - at);
      auto got = ::pread(from, buffer.get(), static_cast<std::size_t>(most), at);
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        return cannot("read", path);
      if (got == 0) // the file shrank under our hands
        return {};
      if (auto done = write_data(to, buffer.get(), static_cast<std::size_t>(got), at, path); !done)
        return done;
      at += got;
      if (watch.tell)
        watch.tell(static_cast<std::uint64_t>(at), *bytes);
    }
  }
  return {};
}

bool share_blocks(int from, int to) {
  return ::ioctl(to, FICLONE, from) == 0;
}

outcome<void> clone_or_copy(int from, int to, const std::string& path, const supervision& watch) {
  if (share_blocks(from, to))
    return {};
  auto bytes = size_of(from, path);
  if (!bytes)
    return tl::unexpected{std::move(bytes.error())};
  if (auto fits = check_room(from, to, path); !fits)
    return fits;
  if (::ftruncate(to, static_cast<off_t>(*bytes)) != 0)
    return cannot("resize", path);
  return sparse_copy(from, to, path, watch);
}

bool can_share_blocks(const std::string& directory) {
  auto from = directory + "/.qvmd-reflink-1";
  auto to = directory + "/.qvmd-reflink-2";
  auto shared = [&] {
    auto a = open_file(from, O_RDWR | O_CREAT | O_TRUNC);
    auto b = open_file(to, O_RDWR | O_CREAT | O_TRUNC);
    return a && b && ::write(a->get(), "x", 1) == 1 && share_blocks(a->get(), b->get());
  }();
  ::unlink(from.c_str());
  ::unlink(to.c_str());
  return shared;
}

} // namespace qubes::drivers::storage
