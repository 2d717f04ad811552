// Image files, with snapshots by the device mapper (spec/storage.md §5). The guest writes to the
// image; a copy-on-write file beside it takes the blocks as they were.
#include "drivers/io/files.hpp"
#include "drivers/process/command_runner.hpp"
#include "drivers/storage/draft_file.hpp"
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/image_pool.hpp"
#include "drivers/storage/mapping_table.hpp"
#include "drivers/storage/refusals.hpp"
#include "drivers/storage/revisions.hpp"

#include "model/base/literal.hpp"
#include "model/storage/volume.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace qubes::drivers::storage {

namespace {

using model::errc;
using model::fail;

constexpr auto create_snapshot = "/usr/lib/qubes/create-snapshot";
constexpr auto destroy_snapshot = "/usr/lib/qubes/destroy-snapshot";

/// Header and first table of a persistent snapshot with chunks of 256 sectors; blocks come after.
constexpr auto empty_cow = off_t{2} * 256 * 512;

outcome<void> remove_all(std::initializer_list<std::string> paths) {
  for (auto& x : paths)
    if (auto done = remove_file(x); !done)
      return done;
  return {};
}

/// Whether blocks were saved to the copy-on-write file.
bool has_blocks(const std::string& cow) {
  auto file = open_file(cow, O_RDONLY);
  return file && ::lseek(file->get(), empty_cow, SEEK_DATA) >= 0;
}

/// As the helpers name a file: HEXDEV:INODE.
outcome<std::string> id_of(const std::string& path) {
  auto facts = facts_of(path);
  if (!facts)
    return missing_image(path);
  return fmt::format("{:x}:{}", facts->st_dev, facts->st_ino);
}

class file_pool final : public image_pool {
public:
  file_pool(model::pool config, const environment& with)
      : image_pool(std::move(config), with), mapper_(with.mapper) {}

  outcome<void> set_up() override { return make_directories(); }

  // -- life ---------------------------------------------------------------------------------------

  outcome<void> create(const volume& x) override {
    return with_new_image(x, [&](const image& files) -> outcome<void> {
      if (auto done = files.tidy(); !done)
        return done;
      if (!x.it.save_on_stop)
        return {}; // made at every start
      if (exists(files.clean()))
        return fail(errc::storage, fmt::format("volume '{}' is there already", files.clean()),
                    "another domain left it; move it away first");
      return make_empty(files.clean(), x.it.size);
    });
  }

  outcome<void> verify(const volume& x) override {
    if (!x.it.save_on_stop && !x.it.snap_on_start)
      return {};
    auto files = x.it.snap_on_start ? origin_of(x) : image_of(x.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    if (!exists(files->clean()))
      return missing_image(files->clean());
    return {};
  }

  outcome<void> start(const volume& x) override {
    return with_image(x, [&](const image& files) -> outcome<void> {
      if (auto done = files.tidy(); !done)
        return done;
      if (is_exported(files.clean()))
        return fail(errc::storage, fmt::format("volume '{}' is being read by an export", x.it.vid),
                    "start its domain when that is over");
      if (auto done = remove_file(files.import()); !done)
        return done;
      if (x.it.snap_on_start)
        return start_snapshot(x, files);
      if (!x.it.save_on_stop)
        return make_empty(files.clean(), x.it.size, lasting::no);
      if (model::snapshots_disabled(x.it))
        return remove_all({files.cow(), files.old_cow()});
      return start_origin(files);
    });
  }

  outcome<void> stop(const volume& x) override {
    return with_image(x, [&](const image& files) -> outcome<void> {
      if (!x.it.save_on_stop && !x.it.snap_on_start)
        return remove_file(files.clean());
      if (auto done = destroy(x); !done)
        return done;
      if (x.it.snap_on_start || !x.it.rw)
        return remove_file(files.cow());
      return exists(files.cow()) ? commit(files, x.it.revisions_to_keep) : outcome<void>{};
    });
  }

  outcome<void> abandon(const volume& x) override { return destroy(x); }

  bool is_dirty(const volume& x) override {
    auto files = image_of(x.it);
    return files && x.it.save_on_stop && has_blocks(files->cow());
  }

  outcome<model::volume_facts> look(const volume& x) override {
    auto files = image_of(x.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    auto facts = facts_of(x.it.snap_on_start ? files->cow() : files->clean());
    auto result = model::volume_facts{
        .size = facts && x.it.save_on_stop ? static_cast<std::uint64_t>(facts->st_size) : x.it.size,
        .usage = facts ? static_cast<std::uint64_t>(facts->st_blocks) * 512 : 0,
        .path = files->clean(),
        .outdated = false,
        .revisions = {}};
    if (auto old = facts_of(files->old_cow()); old && x.it.save_on_stop)
      result.revisions.push_back({"old", utc_text(old->st_mtime)});
    return result;
  }

  std::string device(const volume& x) override {
    if (auto name = running_mapping(x); name && !name->empty())
      return device_of(*name);
    if (auto name = mapping_of(x); name && !name->empty())
      return device_of(*name);
    auto files = image_of(x.it);
    return files ? files->clean() : std::string{};
  }

  // -- data ---------------------------------------------------------------------------------------

  outcome<std::string> begin_export(const volume& x) override {
    auto files = image_of(x.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    if (x.it.snap_on_start)
      return fail(errc::storage,
                  fmt::format("volume '{}' is a snapshot and has no data of its own", x.it.vid));
    auto running = is_running(x);
    if (!running)
      return tl::unexpected{std::move(running.error())};
    if (*running)
      return fail(errc::storage,
                  fmt::format("volume '{}' is in use and cannot be read meanwhile", x.it.vid),
                  "shut its domain down first");
    if (is_dirty(x))
      return still_dirty(x);
    auto hold = std::lock_guard{guard_};
    ++exports_[files->clean()];
    return files->clean();
  }

  void end_export(const volume&, const std::string& path) override {
    auto hold = std::lock_guard{guard_};
    if (auto i = exports_.find(path); i != exports_.end() && --i->second == 0)
      exports_.erase(i);
  }

  outcome<std::string> begin_import(const volume& x, std::uint64_t bytes) override {
    if (!x.it.save_on_stop)
      return not_implemented(x, "take data: it keeps none");
    auto files = image_of(x.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    auto running = is_running(x);
    if (!running)
      return tl::unexpected{std::move(running.error())};
    if (*running || is_dirty(x))
      return still_dirty(x);
    return make_import(*files, bytes, lasting::yes);
  }

  outcome<void> resize(const volume& x, std::uint64_t bytes) override {
    return with_image(x, [&](const image& files) -> outcome<void> {
      if (!x.it.rw)
        return read_only(x);
      if (x.it.snap_on_start)
        return fail(errc::storage, fmt::format("volume '{}' is a snapshot", x.it.vid),
                    "resize the volume of its template");
      if (!x.it.save_on_stop && !exists(files.clean()))
        return {}; // made anew, in the new size, at the next start
      if (auto there = verify(x); !there)
        return there;
      if (::truncate(files.clean().c_str(), static_cast<off_t>(bytes)) != 0)
        return cannot("resize", files.clean());
      if (auto done = grow_loops_over(files.clean()); !done)
        return done;
      return grow_mapping(x, bytes);
    });
  }

  outcome<void> revert(const volume& x, const std::string&) override {
    return not_implemented(x, "be reverted");
  }

private:
  outcome<void> commit_import(const volume&, const image& files) override {
    auto file = open_file(files.import(), O_RDONLY);
    if (!file)
      return tl::unexpected{std::move(file.error())};
    if (auto done = sync_file(file->get(), files.import()); !done)
      return done;
    // The saved blocks belong to the image that goes; those of its revision go last.
    if (auto done = remove_file(files.cow()); !done)
      return done;
    if (auto done = rename_file(files.import(), files.clean()); !done)
      return done;
    return remove_file(files.old_cow());
  }

  static outcome<void> ensure_cow(const image& files) {
    auto facts = facts_of(files.clean());
    if (!facts || exists(files.cow()))
      return {};
    return make_empty(files.cow(), static_cast<std::uint64_t>(facts->st_size));
  }

  /// What was saved becomes the one revision; the guest's writes are in the image already.
  static outcome<void> commit(const image& files, std::int64_t keep) {
    if (!has_blocks(files.cow()))
      return remove_file(files.cow());
    return keep > 0 ? rename_file(files.cow(), files.old_cow()) : remove_file(files.cow());
  }

  // -- the device mapper --------------------------------------------------------------------------

  std::string device_of(const std::string& mapping) const { return mapper_ + '/' + mapping; }

  /// What a start makes; "" for a volume that is used as a file.
  outcome<std::string> mapping_of(const volume& x) const {
    auto files = image_of(x.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    if (x.it.snap_on_start) {
      auto origin = origin_of(x);
      if (!origin)
        return tl::unexpected{std::move(origin.error())};
      auto name = std::string{"snapshot"};
      for (auto& path : {origin->clean(), origin->cow(), files->cow()}) {
        auto id = id_of(path);
        if (!id)
          return id;
        name += '-' + *id;
      }
      return name;
    }
    if (!x.it.save_on_stop || model::snapshots_disabled(x.it))
      return std::string{};
    return id_of(files->clean()).map([](auto id) { return "origin-" + id; });
  }

  /// The mapping of a volume that is there, "" for none. Of a snapshot, its own copy-on-write file
  /// alone tells: its origin's may be others by now.
  outcome<std::string> running_mapping(const volume& x) const {
    if (!x.it.snap_on_start) {
      auto name = mapping_of(x);
      return name && path_exists(device_of(*name)) ? *name : std::string{};
    }
    auto id = image_of(x.it).and_then([](const image& files) { return id_of(files.cow()); });
    if (!id) // the device goes before the file
      return std::string{};
    return names_in(mapper_).map([&](const auto& names) {
      auto found = std::ranges::find_if(names, [&](const std::string& name) {
        return name.starts_with("snapshot-") && name.ends_with('-' + *id);
      });
      return found == names.end() ? std::string{} : *found;
    });
  }

  outcome<bool> is_running(const volume& x) const {
    return running_mapping(x).map([](const std::string& name) { return !name.empty(); });
  }

  /// One at a time: the helpers look for free loop devices.
  outcome<void> map(std::vector<std::string> words) {
    auto hold = std::lock_guard{device_mapper_};
    if (::geteuid() != 0)
      words.insert(words.begin(), "sudo");
    auto done = run_or_fail(commands(), {.words = std::move(words)});
    if (!done)
      return tl::unexpected{std::move(done.error())};
    return {};
  }

  outcome<void> start_origin(const image& files) {
    if (auto done = ensure_cow(files); !done)
      return done;
    auto id = id_of(files.clean());
    if (!id)
      return tl::unexpected{std::move(id.error())};
    return map({create_snapshot, "origin-" + *id, files.clean(), files.cow()});
  }

  outcome<void> start_snapshot(const volume& x, const image& files) {
    auto origin = origin_of(x);
    if (!origin)
      return tl::unexpected{std::move(origin.error())};
    auto facts = facts_of(origin->clean());
    if (!facts)
      return missing_image(origin->clean());
    if (auto made = make_parents(x.it); !made)
      return made;
    if (auto done = make_empty(files.cow(), static_cast<std::uint64_t>(facts->st_size)); !done)
      return done;
    if (auto done = ensure_cow(*origin); !done)
      return done;
    auto name = mapping_of(x);
    if (!name)
      return tl::unexpected{std::move(name.error())};
    return map({create_snapshot, *name, origin->clean(), origin->cow(), files.cow()});
  }

  outcome<void> destroy(const volume& x) {
    return running_mapping(x).and_then([&](const std::string& name) {
      return name.empty() ? outcome<void>{} : map({destroy_snapshot, device_of(name)});
    });
  }

  /// The table of the running device, with its new length.
  outcome<void> grow_mapping(const volume& x, std::uint64_t bytes) {
    auto mapping = running_mapping(x);
    if (!mapping)
      return tl::unexpected{std::move(mapping.error())};
    if (mapping->empty())
      return {};
    const auto& name = *mapping;
    auto table = run_or_fail(commands(), {.words = {"dmsetup", "table", name}});
    if (!table)
      return tl::unexpected{std::move(table.error())};
    auto grown = resized_table(*table, bytes);
    if (!grown)
      return fail(errc::storage,
                  fmt::format("the device mapper's table of '{}' is not understood: {}", name,
                              model::quoted(*table)));
    if (auto done = map({"dmsetup", "load", name, "--table", *grown}); !done)
      return done;
    return map({"dmsetup", "resume", name});
  }

  bool is_exported(const std::string& path) {
    auto hold = std::lock_guard{guard_};
    return exports_.contains(path);
  }

  const std::string mapper_;
  std::mutex guard_;
  std::map<std::string, int> exports_; ///< image -> how often it is being read
  std::mutex device_mapper_;
};

} // namespace

outcome<std::shared_ptr<pool>> open_file_pool(const model::pool& config, const environment& with) {
  if (auto sound = directory_of(config); !sound)
    return tl::unexpected{std::move(sound.error())};
  return std::make_shared<file_pool>(config, with);
}

} // namespace qubes::drivers::storage
