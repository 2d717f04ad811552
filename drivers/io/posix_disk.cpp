#include "drivers/io/disk.hpp"
#include "drivers/io/qubes_group.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/io/unique_fd.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;

tl::unexpected<model::error> cannot(std::string_view what, std::string_view name,
                                    int code = errno) {
  return fail(errc::store, fmt::format("cannot {} '{}': {}", what, name, reason(code)));
}

/// Repeats a call that a signal interrupted.
template <class Call>
auto whole(Call call) {
  for (;;)
    if (auto got = call(); got >= 0 || errno != EINTR)
      return got;
}

/// Below the disk's directory: relative, no "." or "..", no empty part.
bool stays_inside(std::string_view name) {
  if (name.find('\0') != std::string_view::npos)
    return false;
  for (;;) {
    auto slash = name.find('/');
    auto part = name.substr(0, slash);
    if (part.empty() || part == "." || part == "..")
      return false;
    if (slash == std::string_view::npos)
      return true;
    name.remove_prefix(slash + 1);
  }
}

/// "" for the disk's own directory.
std::string folder_of(const std::string& name) {
  auto slash = name.rfind('/');
  return slash == std::string::npos ? std::string{} : name.substr(0, slash);
}

class posix_disk final : public disk {
public:
  explicit posix_disk(std::string directory)
      : directory_(std::move(directory)),
        root_(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
        root_error_(root_ ? 0 : errno), group_(qubes_gid()) {}

  outcome<std::optional<std::string>> read(const std::string& name, std::size_t limit) override {
    if (auto bad = refuse("read", name))
      return tl::unexpected{*bad};
    // O_NONBLOCK: a FIFO in the file's place must not hang the caller.
    auto file = open_file(name, O_RDONLY | O_NONBLOCK);
    if (!file && errno == ENOENT && leads_nowhere(name))
      return fail(errc::store, fmt::format("cannot read '{}': a link leads nowhere", name));
    if (!file)
      return errno == ENOENT ? outcome<std::optional<std::string>>{std::nullopt}
                             : cannot("read", name);
    struct ::stat facts {};
    if (::fstat(file.get(), &facts) != 0)
      return cannot("read", name);
    if (!S_ISREG(facts.st_mode))
      return fail(errc::store, fmt::format("cannot read '{}': not a regular file", name));

    auto too_long = [&] {
      return fail(errc::store, fmt::format("cannot read '{}': longer than {} bytes", name, limit));
    };
    auto size = static_cast<std::size_t>(facts.st_size);
    if (size > limit)
      return too_long();
    auto bytes = std::string(size + 1, '\0'); // one more, to see whether it grew
    auto filled = std::size_t{0};
    for (;;) {
      if (filled == bytes.size())
        bytes.resize(std::min(bytes.size() * 2, limit + 1));
      auto got =
          whole([&] { return ::read(file.get(), bytes.data() + filled, bytes.size() - filled); });
      if (got < 0)
        return cannot("read", name);
      if (got == 0)
        break;
      filled += static_cast<std::size_t>(got);
      if (filled > limit)
        return too_long();
    }
    bytes.resize(filled);
    return std::optional{std::move(bytes)};
  }

  outcome<std::optional<file_stamp>> stamp(const std::string& name) override {
    if (auto bad = refuse("look at", name))
      return tl::unexpected{*bad};
    struct ::stat facts {};
    if (::fstatat(root_.get(), name.c_str(), &facts, 0) != 0)
      return errno == ENOENT ? outcome<std::optional<file_stamp>>{std::nullopt}
                             : cannot("look at", name);
    return std::optional{file_stamp{facts.st_ino, static_cast<std::uint64_t>(facts.st_size),
                                    facts.st_mtim.tv_sec * 1'000'000'000 + facts.st_mtim.tv_nsec}};
  }

  outcome<void> write(const std::string& name, const std::string& bytes) override {
    if (auto bad = refuse("write", name))
      return tl::unexpected{*bad};
    auto file = create(name);
    if (!file)
      return cannot("write", name);
    for (auto rest = std::string_view{bytes}; !rest.empty();) {
      auto put = whole([&] { return ::write(file.get(), rest.data(), rest.size()); });
      if (put < 0)
        return cannot("write", name);
      rest.remove_prefix(static_cast<std::size_t>(put));
    }
    // Some file systems report a full disk only here.
    if (::close(file.release()) != 0 && errno != EINTR)
      return cannot("write", name);
    return {};
  }

  outcome<void> sync(const std::string& name) override {
    if (auto bad = refuse("sync", name))
      return tl::unexpected{*bad};
    return sync_opened(name, O_RDONLY | O_NONBLOCK);
  }

  outcome<void> rename(const std::string& from, const std::string& to) override {
    if (auto bad = refuse("rename", from); bad || (bad = refuse("rename to", to)))
      return tl::unexpected{*bad};
    if (::renameat(root_.get(), from.c_str(), root_.get(), to.c_str()) != 0)
      return fail(errc::store, fmt::format("cannot rename '{}' to '{}': {}", from, to, reason()));
    return {};
  }

  outcome<void> link(const std::string& from, const std::string& to) override {
    if (auto bad = refuse("link", from); bad || (bad = refuse("link to", to)))
      return tl::unexpected{*bad};
    if (::linkat(root_.get(), from.c_str(), root_.get(), to.c_str(), 0) != 0)
      return fail(errc::store, fmt::format("cannot link '{}' to '{}': {}", from, to, reason()));
    return {};
  }

  outcome<void> remove(const std::string& name) override {
    if (auto bad = refuse("remove", name))
      return tl::unexpected{*bad};
    if (::unlinkat(root_.get(), name.c_str(), 0) != 0 && errno != ENOENT)
      return cannot("remove", name);
    return {};
  }

  outcome<void> sync_names(const std::string& name) override {
    if (auto bad = refuse("sync the directory of", name))
      return tl::unexpected{*bad};
    return sync_directory(folder_of(name));
  }

  outcome<std::vector<std::string>> list(const std::string& directory) override {
    if (!directory.empty())
      if (auto bad = refuse("list", directory))
        return tl::unexpected{*bad};
    if (auto bad = refuse_root("list", directory))
      return tl::unexpected{*bad};
    auto handle = open_directory(directory);
    if (!handle)
      return errno == ENOENT ? outcome<std::vector<std::string>>{} : cannot("list", directory);
    auto stream = std::unique_ptr<DIR, int (*)(DIR*)>{::fdopendir(handle.get()), &::closedir};
    if (!stream)
      return cannot("list", directory);
    handle.release(); // the stream's now
    auto names = std::vector<std::string>{};
    while (errno = 0, true) {
      const auto* row = ::readdir(stream.get());
      if (!row)
        break;
      if (is_file(::dirfd(stream.get()), *row))
        names.emplace_back(row->d_name);
    }
    if (errno != 0)
      return cannot("list", directory);
    std::ranges::sort(names);
    return names;
  }

  outcome<void> make_directory(const std::string& name) override {
    if (auto bad = refuse("make directory", name))
      return tl::unexpected{*bad};
    for (auto end = std::size_t{0}; end != std::string::npos;) {
      end = name.find('/', end + 1);
      if (auto made = make_one_directory(name.substr(0, end)); !made)
        return made;
    }
    return {};
  }

private:
  std::optional<model::error> refuse_root(std::string_view what, std::string_view name) const {
    if (root_)
      return std::nullopt;
    return model::error{errc::store,
                        fmt::format("cannot {} '{}': directory '{}' cannot be opened: {}", what,
                                    name, directory_, reason(root_error_)),
                        "create it, or check the daemon's state directory"};
  }

  std::optional<model::error> refuse(std::string_view what, std::string_view name) const {
    if (!stays_inside(name))
      return model::error{
          errc::store, fmt::format("cannot {} '{}': the name leaves '{}'", what, name, directory_),
          ""};
    return refuse_root(what, name);
  }

  unique_fd open_file(const std::string& name, int flags) const {
    return unique_fd{
        whole([&] { return ::openat(root_.get(), name.c_str(), flags | O_CLOEXEC, 0600); })};
  }

  /// Whether the file, or a directory above it, is a link to what is not there.
  bool leads_nowhere(const std::string& name) const {
    auto is_there = [&](const std::string& path, int how) {
      struct ::stat facts {};
      return ::fstatat(root_.get(), path.c_str(), &facts, how) == 0;
    };
    for (auto path = name; !path.empty(); path = folder_of(path))
      if (is_there(path, AT_SYMLINK_NOFOLLOW))
        return !is_there(path, 0) && errno == ENOENT;
    return false;
  }

  unique_fd open_directory(const std::string& name) const {
    return open_file(name.empty() ? "." : name, O_RDONLY | O_DIRECTORY);
  }

  /// A new file gets its group and mode before its first byte.
  unique_fd create(const std::string& name) const {
    constexpr auto flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK;
    if (auto made = open_file(name, flags | O_CREAT | O_EXCL))
      return share(made.get(), 0660) ? std::move(made) : unique_fd{};
    return errno == EEXIST ? open_file(name, flags | O_TRUNC) : unique_fd{};
  }

  /// A daemon that may not give files away still gets to write them.
  bool share(int fd, mode_t mode) const {
    if (group_ && ::fchown(fd, static_cast<uid_t>(-1), *group_) != 0 && errno != EPERM)
      return false;
    return ::fchmod(fd, mode) == 0;
  }

  outcome<void> sync_opened(const std::string& name, int flags) const {
    auto file = open_file(name, flags);
    if (!file || whole([&] { return ::fsync(file.get()); }) != 0)
      return cannot("sync", name);
    return {};
  }

  outcome<void> sync_directory(const std::string& name) const {
    return sync_opened(name.empty() ? "." : name, O_RDONLY | O_DIRECTORY);
  }

  /// The new name is made safe as well: files in a directory that vanishes are not safe.
  outcome<void> make_one_directory(const std::string& name) const {
    if (::mkdirat(root_.get(), name.c_str(), 0700) != 0) {
      auto code = errno;
      return code == EEXIST && open_directory(name) ? outcome<void>{}
                                                    : cannot("make directory", name, code);
    }
    auto made = open_directory(name);
    if (!made || !share(made.get(), 0770))
      return cannot("make directory", name);
    return sync_directory(folder_of(name));
  }

  static bool is_file(int directory, const ::dirent& row) {
    if (row.d_type != DT_UNKNOWN)
      return row.d_type == DT_REG || row.d_type == DT_LNK;
    struct ::stat facts {};
    return ::fstatat(directory, row.d_name, &facts, 0) == 0 && S_ISREG(facts.st_mode);
  }

  std::string directory_;
  unique_fd root_;
  int root_error_;
  std::optional<gid_t> group_;
};

} // namespace

std::unique_ptr<disk> open_disk(std::string directory) {
  return std::make_unique<posix_disk>(std::move(directory));
}

} // namespace qubes::drivers
