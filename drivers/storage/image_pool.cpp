#include "drivers/storage/image_pool.hpp"

#include "drivers/io/files.hpp"
#include "drivers/process/command_runner.hpp"
#include "drivers/storage/draft_file.hpp"
#include "drivers/storage/refusals.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fmt/format.h>

#include <filesystem>
#include <fstream>

namespace qubes::drivers::storage {

using model::errc;
using model::fail;

// -- the files of a volume ------------------------------------------------------------------------

namespace {

constexpr std::string_view suffixes[]{".img", "-dirty.img", "-precache.img", "-import.img",
                                      "-cow.img"};

bool is_of(std::string_view name, std::string_view stem) {
  if (!name.starts_with(stem))
    return false;
  name.remove_prefix(stem.size());
  for (auto suffix : suffixes)
    if (name.starts_with(suffix)
        && (name.size() == suffix.size() || name[suffix.size()] == '.' // a revision, an old cow
            || name[suffix.size()] == '~'))
      return true;
  return false;
}

} // namespace

outcome<std::vector<std::string>> image::all() const {
  auto stem = base_.substr(base_.rfind('/') + 1);
  return names_in(directory()).map([&](auto names) {
    std::erase_if(names, [&](auto& name) { return !is_of(name, stem); });
    return names;
  });
}

outcome<void> image::tidy() const {
  auto mine = all();
  if (!mine)
    return tl::unexpected{std::move(mine.error())};
  for (auto& name : *mine)
    if (name.find('~') != name.npos)
      if (auto done = remove_file(directory() + '/' + name); !done)
        return done;
  return {};
}

// -- the pool -------------------------------------------------------------------------------------

tl::unexpected<model::error> still_dirty(const volume& x) {
  return fail(errc::storage, fmt::format("volume '{}' is not cleanly stopped", x.it.vid),
              "start and stop its domain first");
}

outcome<std::string> directory_of(const model::pool& x) {
  auto path = std::string{x.attribute("dir_path")};
  if (path.empty() || path.front() != '/')
    return fail(errc::storage, fmt::format("'{}' is no absolute path", path),
                "dir_path names a directory of this host");
  while (path.size() > 1 && path.back() == '/')
    path.pop_back();
  return path;
}

image_pool::image_pool(model::pool config, const environment& with)
    : config_(std::move(config)), root_(*directory_of(config_)), commands_(with.commands) {}

outcome<model::pool_facts> image_pool::facts() {
  auto result = model::pool_facts{};
  struct ::statvfs room {};
  if (::statvfs(root_.c_str(), &room) != 0)
    return result;
  result.size = std::uint64_t{room.f_blocks} * room.f_frsize;
  result.usage = (std::uint64_t{room.f_blocks} - room.f_bfree) * room.f_frsize;
  result.details = {{"data_size", *result.size}, {"data_usage", *result.usage}};
  return result;
}

outcome<void> image_pool::remove(const volume& x) {
  auto files = image_of(x.it);
  if (!files)
    return tl::unexpected{std::move(files.error())};
  auto mine = files->all();
  if (!mine)
    return tl::unexpected{std::move(mine.error())};
  auto first = outcome<void>{};
  for (auto& name : *mine)
    if (auto done = remove_file(files->directory() + '/' + name); first && !done)
      first = std::move(done);
  ::rmdir(files->directory().c_str()); // stays while another volume is in it
  return first;
}

outcome<void> image_pool::make_directories() const {
  if (auto made = make_directory(root_); !made)
    return made;
  for (auto below : {"/appvms", "/vm-templates"})
    if (auto made = make_directory(root_ + below); !made)
      return made;
  return {};
}

outcome<image> image_pool::image_of(const model::volume& x) const {
  auto padded = '/' + x.vid + '/';
  if (x.vid.empty() || padded.find("//") != padded.npos || padded.find("/../") != padded.npos
      || padded.find("/./") != padded.npos || x.vid.find('\0') != x.vid.npos)
    return fail(errc::storage, fmt::format("'{}' is no volume id", x.vid));
  return image{root_ + '/' + x.vid};
}

outcome<image> image_pool::origin_of(const volume& x) const {
  if (!x.origin)
    return no_origin(x);
  return image_of(*x.origin);
}

outcome<std::string> image_pool::make_import(const image& files, std::uint64_t bytes, lasting x) {
  auto path = files.import();
  if (auto made = make_empty(path, bytes, x); !made)
    return tl::unexpected{std::move(made.error())};
  auto hold = std::lock_guard{announcing_};
  announced_[path] = bytes;
  return path;
}

outcome<void> image_pool::end_import(const volume& x, bool keep) {
  return with_image(x, [&](const image& files) -> outcome<void> {
    if (!keep)
      return drop_import(files);
    if (auto sound = check_import(x, files); !sound)
      return sound;
    return commit_import(x, files);
  });
}

outcome<void> image_pool::drop_import(const image& files) {
  auto path = files.import();
  {
    auto hold = std::lock_guard{announcing_};
    announced_.erase(path);
  }
  return remove_file(path);
}

outcome<void> image_pool::check_import(const volume& x, const image& files) {
  auto came = facts_of(files.import());
  if (!came)
    return fail(errc::storage, fmt::format("nothing is being imported to '{}'", x.it.vid),
                "a start of its domain ends an import");
  auto bytes = [&] {
    auto hold = std::lock_guard{announcing_};
    return announced_.extract(files.import());
  }();
  auto size = static_cast<std::uint64_t>(came->st_size);
  if (bytes.empty() || bytes.mapped() == size)
    return {};
  (void)remove_file(files.import()); // the reason above is the one to tell
  return fail(errc::storage,
              fmt::format("{} bytes were announced for volume '{}' and {} came", bytes.mapped(),
                          x.it.vid, size),
              "the volume is as it was; announce the size of what is written");
}

outcome<void> image_pool::make_parents(const model::volume& x) const {
  for (auto slash = x.vid.find('/'); slash != x.vid.npos; slash = x.vid.find('/', slash + 1))
    if (auto made = make_directory(root_ + '/' + x.vid.substr(0, slash)); !made)
      return made;
  return {};
}

/// The kernel names the backing file by its real path.
outcome<void> grow_loops_over(const std::string& path) {
  auto failed = std::error_code{};
  auto real = std::filesystem::canonical(path, failed).string();
  if (failed)
    return fail(errc::storage, fmt::format("cannot find '{}': {}", path, failed.message()));
  auto devices = names_in("/sys/block");
  if (!devices)
    return tl::unexpected{std::move(devices.error())};
  for (auto& name : *devices) {
    if (!name.starts_with("loop"))
      continue;
    auto file = std::ifstream{fmt::format("/sys/block/{}/loop/backing_file", name)};
    auto backing = std::string{};
    if (!std::getline(file, backing) || backing != real)
      continue;
    auto device = open_target("/dev/" + name);
    if (!device)
      return tl::unexpected{std::move(device.error())};
    if (::ioctl(device->get(), LOOP_SET_CAPACITY, 0) != 0)
      return cannot("grow", "/dev/" + name);
  }
  return {};
}

} // namespace qubes::drivers::storage
