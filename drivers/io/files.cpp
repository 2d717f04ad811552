#include "drivers/io/files.hpp"

#include "drivers/io/reason.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

namespace qubes::drivers::storage {

namespace {

constexpr auto image_mode = mode_t{0600};
constexpr auto directory_mode = mode_t{0775};

/// Does not wait for the other end of a pipe that was put there.
outcome<unique_fd> open_at(const std::string& path, int flags) {
  auto file =
      unique_fd{::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, image_mode)};
  if (!file)
    return cannot(flags & O_CREAT ? "create" : "open", path);
  struct ::stat facts {};
  if (::fstat(file.get(), &facts) != 0)
    return cannot("look at", path);
  if (!S_ISREG(facts.st_mode) && !S_ISBLK(facts.st_mode))
    return model::fail(model::errc::storage,
                       fmt::format("'{}' is neither a file nor a block device", path));
  return file;
}

} // namespace

tl::unexpected<model::error> cannot(std::string_view what, const std::string& path, int code) {
  return model::fail(model::errc::storage,
                     fmt::format("cannot {} '{}': {}", what, path, reason(code)),
                     code == ENOSPC || code == EDQUOT ? "make room on its file system" : "");
}

outcome<unique_fd> open_file(const std::string& path, int flags) {
  return open_at(path, flags | O_NOFOLLOW);
}

outcome<unique_fd> open_source(const std::string& path) {
  return open_at(path, O_RDONLY);
}

outcome<unique_fd> open_target(const std::string& path) {
  return open_at(path, O_RDWR);
}

outcome<std::uint64_t> size_of(int file, const std::string& path) {
  struct ::stat facts {};
  if (::fstat(file, &facts) != 0)
    return cannot("look at", path);
  if (!S_ISBLK(facts.st_mode))
    return static_cast<std::uint64_t>(facts.st_size);
  auto bytes = std::uint64_t{0};
  if (::ioctl(file, BLKGETSIZE64, &bytes) != 0)
    return cannot("look at", path);
  return bytes;
}

std::optional<struct ::stat> facts_of(const std::string& path) {
  struct ::stat facts {};
  if (::lstat(path.c_str(), &facts) != 0 || !S_ISREG(facts.st_mode))
    return std::nullopt;
  return facts;
}

bool exists(const std::string& path) {
  return facts_of(path).has_value();
}

outcome<void> sync_file(int file, const std::string& path) {
  if (::fsync(file) != 0)
    return cannot("sync", path);
  return {};
}

outcome<void> sync_directory_of(const std::string& path) {
  auto directory = std::filesystem::path{path}.parent_path().string(); // "/" for what lies there
  auto file = unique_fd{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!file)
    return cannot("open", directory);
  return sync_file(file.get(), directory);
}

outcome<void> remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return cannot("remove", path);
  return {};
}

outcome<void> rename_file(const std::string& from, const std::string& to, lasting x) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    return cannot("rename", from);
  return x == lasting::yes ? sync_directory_of(to) : outcome<void>{};
}

outcome<void> make_directory(const std::string& path) {
  auto failure = std::error_code{};
  if (std::filesystem::is_directory(path, failure)) // mkdir would lock the directory above it
    return {};
  if (::mkdir(path.c_str(), directory_mode) != 0 && errno != EEXIST)
    return cannot("create", path);
  return {};
}

outcome<std::vector<std::string>> names_in(const std::string& directory) {
  auto result = std::vector<std::string>{};
  auto failure = std::error_code{};
  for (auto i = std::filesystem::directory_iterator{directory, failure};
       !failure && i != std::filesystem::directory_iterator{}; i.increment(failure))
    result.push_back(i->path().filename().string());
  if (failure && failure != std::errc::no_such_file_or_directory)
    return cannot("read", directory, failure.value());
  std::ranges::sort(result);
  return result;
}

} // namespace qubes::drivers::storage
