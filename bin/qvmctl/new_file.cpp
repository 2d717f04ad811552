#include "bin/qvmctl/new_file.hpp"

#include "bin/qvmctl/requests.hpp"
#include "bin/qvmctl/sparse_write.hpp"
#include "drivers/io/files.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace qubes::ctl {

namespace {

constexpr auto part = std::size_t{1} << 17;

/// The folder that a name is looked for in, also where it has none before it.
std::string folder_of(const std::string& path) {
  auto folder = std::filesystem::path{path}.parent_path().string();
  return folder.empty() ? "." : folder;
}

failure cannot(std::string_view what, const std::string& name) {
  return {trouble::refused, "", fmt::format("cannot {} {}: {}", what, name, std::strerror(errno)),
          errno == EACCES   ? "root may"
          : errno == ENOENT ? "name a folder that is there"
                            : ""};
}

} // namespace

expected<std::unique_ptr<new_file>> new_file::open(std::string path, interruption& stop) {
  if (auto may = check(path); !may)
    return tl::unexpected{std::move(may.error())};
  auto result = std::unique_ptr<new_file>{new new_file{std::move(path), stop}};
  if (!result->is_stream())
    if (auto made = result->create(); !made)
      return tl::unexpected{std::move(made.error())};
  return result;
}

expected<void> new_file::check(const std::string& path) {
  if (path == "-" && ::isatty(STDOUT_FILENO) == 1)
    return usage_failure("the bytes of a volume are not for a terminal", "name a file");
  if (path == "-")
    return {};
  struct stat about {};
  if (::lstat(path.c_str(), &about) == 0)
    return tl::unexpected{failure{trouble::refused, "", fmt::format("'{}' is there already", path),
                                  "name another file"}};
  auto folder = folder_of(path) + "/"; // of what is no folder this is refused
  if (::faccessat(AT_FDCWD, folder.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    return tl::unexpected{ctl::cannot("create", fmt::format("'{}'", path))};
  return {};
}

expected<void> new_file::create() {
  constexpr auto flags = O_WRONLY | O_CLOEXEC;
  file_.reset(::open(folder_of(path_).c_str(), flags | O_TMPFILE, 0600));
  if (!file_ && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    file_.reset(::open(path_.c_str(), flags | O_CREAT | O_EXCL, 0600));
    named_ = static_cast<bool>(file_);
    if (named_)
      stop_.removes(path_);
  }
  return file_ ? expected<void>{} : tl::unexpected{cannot("create")};
}

new_file::~new_file() {
  if (!named_)
    return;
  ::unlink(path_.c_str());
  stop_.removes("");
}

failure new_file::cannot(std::string_view what) const {
  return ctl::cannot(what, is_stream() ? "standard output" : fmt::format("'{}'", path_));
}

expected<void> new_file::write(std::uint64_t at, std::string_view bytes) {
  if (is_stream())
    return put_zeros_until(at).and_then([&] { return put(bytes); });
  return write_sparse(file_.get(), at, bytes) ? expected<void>{} : tl::unexpected{cannot("write")};
}

expected<void> new_file::put(std::string_view bytes) {
  if (!write_out(bytes))
    return tl::unexpected{cannot("write")};
  sent_ += bytes.size();
  return {};
}

expected<void> new_file::put_zeros_until(std::uint64_t at) {
  const auto zeros = std::string(std::min<std::uint64_t>(at - std::min(sent_, at), part), '\0');
  while (sent_ < at) {
    if (stop_.raised())
      return tl::unexpected{failure{trouble::refused, "", "cancelled", ""}};
    if (auto sent = put(std::string_view{zeros}.substr(0, at - sent_)); !sent)
      return sent;
  }
  return {};
}

expected<void> new_file::keep(std::uint64_t size) {
  if (is_stream())
    return put_zeros_until(size);
  if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0 || ::fdatasync(file_.get()) != 0)
    return tl::unexpected{cannot("write")};
  auto mine = fmt::format("/proc/self/fd/{}", file_.get());
  if (!named_ && ::linkat(AT_FDCWD, mine.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0)
    return tl::unexpected{cannot("create")};
  stop_.removes("");
  named_ = false; // it stays
  auto placed = folder_of(path_) + "/" + std::filesystem::path{path_}.filename().string();
  if (auto synced = drivers::storage::sync_directory_of(placed); !synced)
    return tl::unexpected{failure{trouble::refused, "", synced.error().text, synced.error().hint}};
  return {};
}

} // namespace qubes::ctl
