// Volumes as image files (spec/storage.md §4, §5) and kernels as directories (§8).
#include "drivers/disks.hpp"
#include "drivers/reason.hpp"
#include "drivers/unique_fd.hpp"

#include "model/volume.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <filesystem>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

using model::errc;
using model::fail;

constexpr auto image_mode = mode_t{0600};
constexpr auto directory_mode = mode_t{0775};

tl::unexpected<model::error> cannot(std::string_view what, const std::string& path,
                                    int code = errno) {
  return fail(errc::storage, fmt::format("cannot {} '{}': {}", what, path, reason(code)),
              code == ENOSPC || code == EDQUOT ? "make room on this file system" : "");
}

// -- files --------------------------------------------------------------------------------------

outcome<unique_fd> open_file(const std::string& path, int flags, mode_t mode = image_mode) {
  auto file = unique_fd{::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode)};
  if (!file)
    return cannot(flags & O_CREAT ? "create" : "open", path);
  return file;
}

std::optional<struct ::stat> facts_of(const std::string& path) {
  struct ::stat facts {};
  if (::lstat(path.c_str(), &facts) != 0 || !S_ISREG(facts.st_mode))
    return std::nullopt;
  return facts;
}

outcome<void> sync_directory_of(const std::string& path) {
  auto directory = path.substr(0, path.rfind('/'));
  auto file = unique_fd{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!file || ::fsync(file.get()) != 0)
    return cannot("sync", directory);
  return {};
}

outcome<void> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), directory_mode) != 0 && errno != EEXIST)
    return cannot("create", path);
  return {};
}

outcome<void> make_parents(const std::string& root, const std::string& vid) {
  for (auto slash = vid.find('/'); slash != vid.npos; slash = vid.find('/', slash + 1))
    if (auto made = make_directory(root + '/' + vid.substr(0, slash)); !made)
      return made;
  return {};
}

/// Only the data is copied; holes stay holes.
outcome<void> copy_data(int from, int to, const std::string& path) {
  struct ::stat facts {};
  if (::fstat(from, &facts) != 0)
    return cannot("look at", path);
  for (auto at = off_t{0};;) {
    auto begin = ::lseek(from, at, SEEK_DATA);
    if (begin < 0)
      return errno == ENXIO ? outcome<void>{} : cannot("read", path);
    auto end = ::lseek(from, begin, SEEK_HOLE);
    if (end < 0)
      return cannot("read", path);
    auto source = begin;
    auto target = begin;
    while (source < end) {
      auto got =
          ::copy_file_range(from, &source, to, &target, static_cast<std::size_t>(end - source), 0);
      if (got < 0)
        return cannot("copy to", path);
      if (got == 0)
        break;
    }
    at = end;
  }
}

/// A file that becomes visible under its name only when it is whole.
class draft_file {
public:
  static outcome<draft_file> create(std::string path, std::string suffix) {
    auto result = draft_file{std::move(path), std::move(suffix)};
    auto file = open_file(result.name_, O_RDWR | O_CREAT | O_TRUNC);
    if (!file)
      return tl::unexpected{std::move(file.error())};
    result.file_ = std::move(*file);
    return result;
  }

  draft_file(draft_file&& other) noexcept
      : path_(std::move(other.path_)), name_(std::exchange(other.name_, {})),
        file_(std::move(other.file_)) {}
  draft_file& operator=(draft_file&&) = delete;
  ~draft_file() {
    if (!name_.empty())
      ::unlink(name_.c_str());
  }

  int get() const { return file_.get(); }

  outcome<void> size(std::uint64_t bytes) {
    if (::ftruncate(file_.get(), static_cast<off_t>(bytes)) != 0)
      return cannot("resize", name_);
    return {};
  }

  outcome<void> keep() {
    if (::fsync(file_.get()) != 0)
      return cannot("sync", name_);
    if (::rename(name_.c_str(), path_.c_str()) != 0)
      return cannot("rename", name_);
    name_.clear();
    return sync_directory_of(path_);
  }

private:
  draft_file(std::string path, std::string suffix)
      : path_(std::move(path)), name_(path_ + std::move(suffix)) {}

  std::string path_;
  std::string name_; ///< "" once it is kept
  unique_fd file_;
};

/// Shares the blocks where the file system can, else copies the data.
outcome<void> fill_from(const draft_file& to, const std::string& from) {
  auto source = open_file(from, O_RDONLY);
  if (!source)
    return tl::unexpected{std::move(source.error())};
  if (::ioctl(to.get(), FICLONE, source->get()) == 0)
    return {};
  struct ::stat facts {};
  if (::fstat(source->get(), &facts) != 0 || ::ftruncate(to.get(), facts.st_size) != 0)
    return cannot("copy", from);
  return copy_data(source->get(), to.get(), from);
}

outcome<void> make_copy(const std::string& from, const std::string& to, std::uint64_t bytes = 0) {
  auto file = draft_file::create(to, "~copy");
  if (!file)
    return tl::unexpected{std::move(file.error())};
  if (auto done = fill_from(*file, from); !done)
    return done;
  if (bytes > 0)
    if (auto done = file->size(bytes); !done)
      return done;
  return file->keep();
}

outcome<void> make_empty(const std::string& path, std::uint64_t bytes) {
  auto file = draft_file::create(path, "~new");
  if (!file)
    return tl::unexpected{std::move(file.error())};
  if (auto done = file->size(bytes); !done)
    return done;
  return file->keep();
}

// -- one volume ---------------------------------------------------------------------------------

std::string utc(std::time_t when) {
  auto parts = std::tm{};
  ::gmtime_r(&when, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

/// The names of a volume's files.
struct image {
  std::string root; ///< the pool's directory
  std::string vid;

  std::string base() const { return root + '/' + vid; }
  std::string clean() const { return base() + ".img"; }
  std::string dirty() const { return base() + "-dirty.img"; }
  std::string precache() const { return base() + "-precache.img"; }
  std::string import() const { return base() + "-import.img"; }
};

struct kept {
  std::uint64_t number = 0;
  std::string time;
  std::string path;
};

/// `NAME.img.N@TIMEZ` beside the image, oldest first.
std::vector<kept> revisions_of(const image& x) {
  auto result = std::vector<kept>{};
  auto clean = fs::path{x.clean()};
  auto prefix = clean.filename().string() + '.';
  auto failure = std::error_code{};
  for (auto& entry : fs::directory_iterator{clean.parent_path(), failure}) {
    auto name = entry.path().filename().string();
    auto at = name.find('@');
    if (!name.starts_with(prefix) || at == name.npos || name.size() < at + 20)
      continue;
    auto it = kept{.number = 0, .time = name.substr(at + 1, 19), .path = entry.path().string()};
    auto digits = std::string_view{name}.substr(prefix.size(), at - prefix.size());
    auto [end, wrong] = std::from_chars(digits.begin(), digits.end(), it.number);
    if (wrong == std::errc{} && end == digits.end())
      result.push_back(std::move(it));
  }
  std::ranges::sort(result, {}, &kept::number);
  return result;
}

/// The present state becomes the newest revision; the oldest beyond `keep` go.
outcome<void> add_revision(const image& x, std::int64_t keep) {
  auto all = revisions_of(x);
  auto facts = facts_of(x.clean());
  if (keep > 0 && facts) {
    auto number = all.empty() ? 1 : all.back().number + 1;
    auto path = fmt::format("{}.{}@{}Z", x.clean(), number, utc(facts->st_mtime));
    if (::link(x.clean().c_str(), path.c_str()) != 0 && errno != EEXIST)
      return cannot("keep", path);
    all.push_back({number, {}, path});
  }
  auto most = static_cast<std::size_t>(std::max<std::int64_t>(keep, 0));
  for (auto i = std::size_t{0}; i + most < all.size(); ++i)
    ::unlink(all[i].path.c_str());
  return {};
}

outcome<void> replace_clean(const image& x, const std::string& with, std::int64_t keep) {
  if (auto kept_old = add_revision(x, keep); !kept_old)
    return kept_old;
  if (::rename(with.c_str(), x.clean().c_str()) != 0)
    return cannot("rename", with);
  ::unlink(x.precache().c_str());
  return sync_directory_of(x.clean());
}

outcome<void> remove_images(const image& x) {
  auto clean = fs::path{x.clean()};
  auto name = clean.filename().string();
  auto stem = name.substr(0, name.size() - 4); // ".img"
  auto ours = [&](const std::string& y) {
    return y.starts_with(stem + ".img") || y.starts_with(stem + "-dirty.img")
           || y.starts_with(stem + "-precache.img") || y.starts_with(stem + "-import.img")
           || y.starts_with(stem + "-cow.img");
  };
  auto failure = std::error_code{};
  auto first = outcome<void>{};
  for (auto& entry : fs::directory_iterator{clean.parent_path(), failure})
    if (ours(entry.path().filename().string()) && ::unlink(entry.path().c_str()) != 0 && first)
      first = cannot("remove", entry.path().string());
  ::rmdir(clean.parent_path().c_str()); // stays while another volume is in it
  return first;
}

// -- pools --------------------------------------------------------------------------------------

bool is_files(const model::pool& x) {
  return x.driver == "file-reflink" || x.driver == "file";
}

class file_disks final : public disks {
public:
  explicit file_disks(std::string state) : state_(std::move(state)) {}

  outcome<void> create(const model::system& all, const model::domain& x) override {
    if (!x.is(model::qubes_vm))
      return {};
    auto home = directory_of(x);
    if (auto made = make_directory(fmt::format("{}/{}", state_, row(x.type).directory)); !made)
      return made;
    if (::mkdir(home.c_str(), directory_mode) != 0)
      return errno == EEXIST ? fail(errc::storage, fmt::format("'{}' is there already", home),
                                    "another domain left it; move it away first")
                             : cannot("create", home);
    auto made = create_volumes(all, x);
    if (made && x.is(model::disp_vm))
      made = copy_firewall(all, x);
    if (!made)
      (void)remove(all, x); // the first reason is the one to tell
    return made;
  }

  outcome<void> remove(const model::system& all, const model::domain& x) override {
    if (!x.is(model::qubes_vm))
      return {};
    auto first = outcome<void>{};
    for (auto& it : x.volumes) {
      auto image = image_of(all, it);
      auto done = image ? remove_images(*image) : outcome<void>{};
      if (first && !done)
        first = std::move(done);
    }
    auto failure = std::error_code{};
    fs::remove_all(directory_of(x), failure);
    if (first && failure)
      first = cannot("remove", directory_of(x), failure.value());
    return first;
  }

  outcome<model::volume_facts> look(const model::system& all, const model::domain&,
                                    const model::volume& it) override {
    auto home = all.find_pool(it.pool);
    if (!home)
      return no_pool(it.pool);
    if (home->driver == "linux-kernel")
      return model::volume_facts{
          .size = 0,
          .usage = 0,
          .path = it.vid.empty() ? "" : fmt::format("{}/{}/modules.img", root_of(*home), it.vid),
          .outdated = false,
          .revisions = {}};
    auto image = image_of(all, it);
    if (!image)
      return tl::unexpected{std::move(image.error())};
    auto facts = facts_of(image->dirty());
    if (!facts)
      facts = facts_of(image->clean());
    auto result = model::volume_facts{
        .size = facts && it.save_on_stop ? static_cast<std::uint64_t>(facts->st_size) : it.size,
        .usage = facts ? static_cast<std::uint64_t>(facts->st_blocks) * 512 : 0,
        .path = home->driver == "file" ? image->clean() : image->dirty(),
        .outdated = is_outdated(all, it, *image),
        .revisions = {}};
    if (it.save_on_stop)
      for (auto& y : revisions_of(*image))
        result.revisions.push_back({fmt::format("{}", y.number), y.time});
    return result;
  }

  outcome<void> copy(const model::system& all, const model::volume& from,
                     const model::volume& to) override {
    if (!to.save_on_stop)
      return {};
    auto source = image_of(all, from);
    auto target = image_of(all, to);
    if (!source || !target)
      return tl::unexpected{!source ? source.error() : target.error()};
    if (facts_of(target->dirty()))
      return still_dirty(to);
    if (auto done = make_copy(source->clean(), target->import()); !done)
      return done;
    return replace_clean(*target, target->import(), to.revisions_to_keep);
  }

  outcome<void> resize(const model::system& all, const model::volume& it,
                       std::uint64_t bytes) override {
    auto image = image_of(all, it);
    if (!image)
      return tl::unexpected{std::move(image.error())};
    if (!it.rw)
      return fail(errc::storage, fmt::format("volume '{}' is read-only", it.vid));
    if (facts_of(image->dirty())) {
      if (::truncate(image->dirty().c_str(), static_cast<off_t>(bytes)) != 0)
        return cannot("resize", image->dirty());
      return {};
    }
    if (!it.save_on_stop || !facts_of(image->clean()))
      return {}; // made anew, in the new size, at the next start
    ::unlink(image->precache().c_str());
    return make_copy(image->clean(), image->clean(), bytes);
  }

  outcome<void> clear(const model::system& all, const model::volume& it,
                      std::uint64_t bytes) override {
    auto path = begin_import(all, it, bytes);
    if (!path)
      return tl::unexpected{std::move(path.error())};
    return end_import(all, it, true);
  }

  outcome<void> revert(const model::system& all, const model::volume& it,
                       const std::string& revision) override {
    auto image = image_of(all, it);
    if (!image)
      return tl::unexpected{std::move(image.error())};
    if (facts_of(image->dirty()))
      return still_dirty(it);
    auto old = revisions_of(*image);
    auto wanted =
        std::ranges::find_if(old, [&](auto& x) { return fmt::format("{}", x.number) == revision; });
    if (wanted == old.end())
      return fail(errc::storage, fmt::format("volume '{}' has no revision '{}'", it.vid, revision));
    return replace_clean(
        *image, wanted->path,
        std::max<std::int64_t>(it.revisions_to_keep, static_cast<std::int64_t>(old.size())));
  }

  outcome<std::string> begin_import(const model::system& all, const model::volume& it,
                                    std::uint64_t bytes) override {
    auto image = image_of(all, it);
    if (!image)
      return tl::unexpected{std::move(image.error())};
    if (!it.save_on_stop)
      return fail(errc::not_implemented,
                  fmt::format("volume '{}' keeps nothing and takes no data", it.vid));
    if (facts_of(image->dirty()))
      return still_dirty(it);
    if (auto made = make_empty(image->import(), bytes); !made)
      return tl::unexpected{std::move(made.error())};
    return image->import();
  }

  outcome<void> end_import(const model::system& all, const model::volume& it, bool keep) override {
    auto image = image_of(all, it);
    if (!image)
      return tl::unexpected{std::move(image.error())};
    if (!keep) {
      ::unlink(image->import().c_str());
      return {};
    }
    auto file = open_file(image->import(), O_RDONLY);
    if (!file)
      return fail(errc::storage, fmt::format("nothing is being imported to '{}'", it.vid));
    if (::fsync(file->get()) != 0)
      return cannot("sync", image->import());
    return replace_clean(*image, image->import(), it.revisions_to_keep);
  }

  outcome<void> set_up(const model::system&, const model::pool& it) override {
    if (it.driver == "linux-kernel")
      return make_directory(root_of(it));
    if (!is_files(it))
      return unknown_driver(it);
    auto root = root_of(it);
    if (root.empty() || root.front() != '/')
      return fail(errc::storage, fmt::format("'{}' is no absolute path", root),
                  "dir_path names a directory of this host");
    auto fresh = ::mkdir(root.c_str(), directory_mode) == 0;
    if (!fresh && errno != EEXIST)
      return cannot("create", root);
    auto check = it.attribute("setup_check");
    if (it.driver == "file-reflink" && check != "False" && check != "false" && check != "0"
        && !can_share_blocks(root)) {
      if (fresh)
        ::rmdir(root.c_str());
      return fail(errc::storage,
                  fmt::format("the file system of '{}' cannot share blocks between files", root),
                  "give setup_check=False to live with copies, which take time and space");
    }
    for (auto below : {"/appvms", "/vm-templates"})
      if (auto made = make_directory(root + below); !made)
        return made;
    return {};
  }

  outcome<model::pool_facts> look(const model::system& all, const model::pool& it) override {
    auto result = model::pool_facts{};
    result.included_in = holder_of(all, it);
    if (it.driver == "linux-kernel")
      return result;
    if (!is_files(it))
      return unknown_driver(it);
    struct ::statvfs room {};
    if (::statvfs(root_of(it).c_str(), &room) != 0)
      return result;
    result.size = std::uint64_t{room.f_blocks} * room.f_frsize;
    result.usage = (std::uint64_t{room.f_blocks} - room.f_bfree) * room.f_frsize;
    result.details = {{"data_size", *result.size}, {"data_usage", *result.usage}};
    return result;
  }

  outcome<std::vector<std::string>> list(const model::system&, const model::pool& it) override {
    auto names = std::vector<std::string>{};
    auto failure = std::error_code{};
    for (auto& entry : fs::directory_iterator{root_of(it), failure})
      if (entry.is_directory(failure))
        names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    return names;
  }

private:
  static std::string root_of(const model::pool& x) {
    auto path = std::string{x.attribute("dir_path")};
    while (path.size() > 1 && path.back() == '/')
      path.pop_back();
    return path;
  }

  std::string directory_of(const model::domain& x) const {
    return fmt::format("{}/{}/{}", state_, row(x.type).directory, x.name.str());
  }

  static tl::unexpected<model::error> no_pool(std::string_view name) {
    return fail(errc::general, fmt::format("there is no storage pool '{}'", name));
  }

  static tl::unexpected<model::error> unknown_driver(const model::pool& x) {
    return fail(errc::storage,
                fmt::format("pools of driver '{}' cannot be used on this host", x.driver),
                "use file-reflink or file");
  }

  static tl::unexpected<model::error> still_dirty(const model::volume& x) {
    return fail(errc::storage, fmt::format("volume '{}' is not cleanly stopped", x.vid),
                "start and stop the domain first");
  }

  static outcome<image> image_of(const model::system& all, const model::volume& it) {
    auto home = all.find_pool(it.pool);
    if (!home)
      return no_pool(it.pool);
    if (home->driver == "linux-kernel")
      return fail(errc::not_implemented, "a kernel is read-only and cannot be changed here");
    if (!is_files(*home))
      return unknown_driver(*home);
    if (it.vid.empty() || it.vid.front() == '/' || it.vid.find("..") != it.vid.npos
        || it.vid.find('\0') != it.vid.npos)
      return fail(errc::storage, fmt::format("'{}' is no volume id", it.vid));
    return image{root_of(*home), it.vid};
  }

  /// Rules that only lived in memory would be forgotten by a restart, and let everything through.
  outcome<void> copy_firewall(const model::system& all, const model::domain& x) const {
    auto based_on = x.properties.find("template");
    auto name =
        based_on == x.properties.end() ? nullptr : std::get_if<std::string>(&based_on->second);
    auto theirs = name ? all.find(*name) : nullptr;
    auto file = theirs ? directory_of(*theirs) + "/firewall.xml" : std::string{};
    if (file.empty() || !facts_of(file))
      return {};
    return make_copy(file, directory_of(x) + "/firewall.xml");
  }

  static outcome<void> create_volumes(const model::system& all, const model::domain& x) {
    for (auto& it : x.volumes) {
      auto home = all.find_pool(it.pool);
      if (!home)
        return no_pool(it.pool);
      if (home->driver == "linux-kernel")
        continue;
      auto image = image_of(all, it);
      if (!image)
        return tl::unexpected{std::move(image.error())};
      if (auto made = make_parents(image->root, image->vid); !made)
        return made;
      if (!it.save_on_stop)
        continue; // made at every start
      if (facts_of(image->clean()))
        return fail(errc::storage, fmt::format("volume '{}' is there already", image->clean()),
                    "another domain left it; move it away first");
      if (auto made = make_empty(image->clean(), it.size); !made)
        return made;
    }
    return {};
  }

  /// A snapshot shares the clean image it was taken from until its origin has a newer one.
  static std::optional<bool> is_outdated(const model::system& all, const model::volume& it,
                                         const image& mine) {
    if (!it.snap_on_start)
      return false;
    auto own = facts_of(mine.clean());
    auto origin = image_of(all, model::volume{.name = it.name,
                                              .pool = it.pool,
                                              .vid = it.source,
                                              .ephemeral = {},
                                              .source = {},
                                              .unknown = {}});
    auto theirs = origin ? facts_of(origin->clean()) : std::nullopt;
    return own && theirs && own->st_ino != theirs->st_ino;
  }

  static bool can_share_blocks(const std::string& root) {
    auto from = root + "/.qvmd-reflink-1";
    auto to = root + "/.qvmd-reflink-2";
    auto shared = [&] {
      auto a = open_file(from, O_RDWR | O_CREAT | O_TRUNC);
      auto b = open_file(to, O_RDWR | O_CREAT | O_TRUNC);
      return a && b && ::write(a->get(), "x", 1) == 1 && ::ioctl(b->get(), FICLONE, a->get()) == 0;
    }();
    ::unlink(from.c_str());
    ::unlink(to.c_str());
    return shared;
  }

  /// The first other pool whose directory holds this one's (spec/storage.md §3).
  static std::string holder_of(const model::system& all, const model::pool& it) {
    auto mine = root_of(it);
    for (auto& x : all.pools) {
      auto theirs = root_of(x);
      if (x.name != it.name && !theirs.empty() && mine.starts_with(theirs + '/'))
        return x.name;
    }
    return {};
  }

  std::string state_;
};

} // namespace

std::shared_ptr<disks> open_disks(std::string state_directory) {
  return std::make_shared<file_disks>(std::move(state_directory));
}

} // namespace qubes::drivers
