// Image files that share blocks; on file systems that cannot, whole copies (spec/storage.md §4).
// A committed image is only ever replaced by a rename, so every crash leaves the old or the new.
#include "drivers/io/files.hpp"
#include "drivers/storage/draft_file.hpp"
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/image_pool.hpp"
#include "drivers/storage/refusals.hpp"
#include "drivers/storage/revisions.hpp"
#include "drivers/storage/sparse_copy.hpp"

#include "model/base/literal.hpp"
#include "model/storage/volume.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>

namespace qubes::drivers::storage {

namespace {

using model::errc;
using model::fail;

/// Whether a copy ahead of time may cost a copy of the data.
enum class effort { none, copying };

/// A copy made ahead of time, good as long as the committed image is the one it was made of. A
/// crash may take it away; what is there has all its data.
void make_precache(const image& x, effort allowed, const supervision& watch) {
  (void)[&]()->outcome<void> {
    auto clean = facts_of(x.clean());
    if (!clean)
      return {};
    auto file = draft_file::create(x.precache());
    if (!file)
      return tl::unexpected{std::move(file.error())};
    auto shared = file->share_with(x.clean());
    if (!shared)
      return tl::unexpected{std::move(shared.error())};
    if (!*shared && clean->st_blocks > 0 && allowed == effort::none)
      return {};
    if (!*shared)
      if (auto done = file->fill_from(x.clean(), watch); !done)
        return done;
    if (auto done = file->stamp(clean->st_mtim); !done)
      return done;
    if (clean->st_blocks > 0)
      if (auto done = file->sync(); !done)
        return done;
    return file->show();
  }
  (); // without it the next start makes the copy
}

bool is_fresh_precache(const image& x) {
  auto a = facts_of(x.clean());
  auto b = facts_of(x.precache());
  return a && b && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec
         && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/// `with` becomes the committed image, the present one a revision.
outcome<void> commit(const image& x, const std::string& with, std::int64_t keep, effort allowed,
                     const supervision& watch) {
  if (auto file = open_source(with); !file)
    return tl::unexpected{std::move(file.error())};
  else if (auto done = sync_file(file->get(), with); !done)
    return done;
  if (keep > 0)
    if (auto done = add_revision(x); !done)
      return done;
  if (auto done = remove_file(x.precache()); !done)
    return done;
  if (auto done = rename_file(with, x.clean()); !done)
    return done;
  if (auto done = prune_revisions(x, keep); !done)
    return done;
  make_precache(x, allowed, watch);
  return {};
}

class file_reflink_pool final : public image_pool {
public:
  file_reflink_pool(model::pool config, const environment& with)
      : image_pool(std::move(config), with) {}

  // -- the pool -----------------------------------------------------------------------------------

  outcome<void> set_up() override {
    auto fresh = ::access(root().c_str(), F_OK) != 0;
    if (auto made = make_directory(root()); !made)
      return made;
    auto check = model::parse_boolean(config().attribute("setup_check")).value_or(true);
    if (check && !can_share_blocks(root())) {
      if (fresh)
        ::rmdir(root().c_str());
      return fail(errc::storage,
                  fmt::format("the file system of '{}' cannot share blocks between files", root()),
                  "give setup_check=False to live with copies, which take time and space");
    }
    return make_directories();
  }

  // -- life ---------------------------------------------------------------------------------------

  outcome<void> create(const volume& x) override {
    return with_new_image(x, [&](const image& files) -> outcome<void> {
      if (auto done = files.tidy(); !done)
        return done;
      if (!x.it.save_on_stop)
        return {}; // made at every start
      if (exists(files.clean()) || exists(files.dirty()))
        return fail(errc::storage, fmt::format("volume '{}' is there already", files.clean()),
                    "another domain left it; move it away first");
      if (auto made = make_empty(files.clean(), x.it.size); !made)
        return made;
      make_precache(files, effort::none, x.watch);
      return {};
    });
  }

  outcome<void> verify(const volume& x) override {
    if (x.it.snap_on_start)
      return verify_origin(x);
    return with_image(x, [&](const image& files) -> outcome<void> {
      if (x.it.save_on_stop && !exists(files.clean()) && !exists(files.dirty()))
        return missing_image(files.clean());
      return {};
    });
  }

  outcome<void> start(const volume& x) override {
    return with_image(x, [&](const image& files) -> outcome<void> {
      if (auto done = files.tidy(); !done)
        return done;
      if (auto done = remove_file(files.import()); !done)
        return done;
      if (x.it.snap_on_start)
        return start_snapshot(x, files);
      if (!x.it.save_on_stop)
        return make_empty(files.dirty(), x.it.size, lasting::no);
      if (exists(files.dirty())) // a crash came in between: the guest goes on where it was
        return {};
      if (model::snapshots_disabled(x.it))
        return start_in_place(files);
      if (is_fresh_precache(files)) // the first thing the guest syncs makes the name last as well
        return rename_file(files.precache(), files.dirty(), lasting::no);
      if (auto done = remove_file(files.precache()); !done)
        return done;
      return make_copy(files.clean(), files.dirty(), x.watch);
    });
  }

  outcome<void> stop(const volume& x) override {
    return with_image(x, [&](const image& files) -> outcome<void> {
      if (!x.it.save_on_stop) {
        auto done = remove_file(files.dirty());
        return done && x.it.snap_on_start ? remove_file(files.clean()) : done;
      }
      if (!exists(files.dirty()))
        return {};
      if (model::snapshots_disabled(x.it))
        return rename_file(files.dirty(), files.clean());
      return commit(files, files.dirty(), x.it.revisions_to_keep, effort::copying, x.watch);
    });
  }

  outcome<void> abandon(const volume&) override { return {}; } // files are all there is of a volume

  bool is_dirty(const volume& x) override {
    auto files = image_of(x.it);
    return files && x.it.save_on_stop && exists(files->dirty());
  }

  outcome<model::volume_facts> look(const volume& x) override {
    auto files = image_of(x.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    auto facts = facts_of(files->dirty());
    if (!facts)
      facts = facts_of(files->clean());
    auto result =
        model::volume_facts{.size = facts ? static_cast<std::uint64_t>(facts->st_size) : x.it.size,
                            .usage = facts ? static_cast<std::uint64_t>(facts->st_blocks) * 512 : 0,
                            .path = files->dirty(),
                            .outdated = is_outdated(x, *files),
                            .revisions = {}};
    if (!x.it.save_on_stop)
      return result;
    return revisions_of(*files).map([&](const auto& all) {
      for (auto& y : all)
        result.revisions.push_back({fmt::format("{}", y.number), y.time});
      return result;
    });
  }

  std::string device(const volume& x) override {
    auto files = image_of(x.it);
    return files ? files->dirty() : std::string{};
  }

  // -- data ---------------------------------------------------------------------------------------

  outcome<std::string> begin_export(const volume& x) override {
    auto files = image_of(x.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    if (!x.it.save_on_stop)
      return fail(errc::storage, fmt::format("volume '{}' has no data of its own", x.it.vid));
    return files->clean();
  }

  outcome<std::string> begin_import(const volume& x, std::uint64_t bytes) override {
    if (!x.it.save_on_stop)
      return not_implemented(x, "take data: it keeps none");
    auto files = image_of(x.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    if (exists(files->dirty()))
      return still_dirty(x);
    return make_import(*files, bytes, lasting::no);
  }

  /// Also while the domain runs: what the guest has then becomes the committed state at its stop.
  outcome<void> clear(const volume& x, std::uint64_t bytes) override {
    if (!x.it.save_on_stop)
      return not_implemented(x, "be cleared: it keeps nothing");
    return with_image(x, [&](const image& files) -> outcome<void> {
      if (auto made = make_empty(files.import(), bytes, lasting::no); !made)
        return made;
      return commit_import(x, files);
    });
  }

  outcome<void> import_volume(const volume& to, pool& home, const volume& from) override {
    if (!to.it.save_on_stop)
      return {};
    auto files = image_of(to.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    if (exists(files->dirty()))
      return still_dirty(to);
    auto path = home.begin_export(from);
    if (!path)
      return tl::unexpected{std::move(path.error())};
    auto done = make_copy(*path, files->import(), to.watch, {}, lasting::no);
    home.end_export(from, *path);
    if (!done)
      return done;
    if (auto wanted = check_wanted(to); !wanted) {
      (void)remove_file(files->import()); // the reason above is the one to tell
      return wanted;
    }
    return commit_import(to, *files);
  }

  outcome<void> resize(const volume& x, std::uint64_t bytes) override {
    return with_image(x, [&](const image& files) -> outcome<void> {
      if (!x.it.rw)
        return read_only(x);
      if (exists(files.dirty())) {
        if (::truncate(files.dirty().c_str(), static_cast<off_t>(bytes)) != 0)
          return cannot("resize", files.dirty());
        return grow_loops_over(files.dirty());
      }
      if (!x.it.save_on_stop)
        return {}; // made anew, in the new size, at the next start
      if (auto there = verify(x); !there)
        return there;
      if (auto done = remove_file(files.precache()); !done)
        return done;
      if (auto done = make_copy(files.clean(), files.clean(), x.watch, bytes); !done)
        return done;
      make_precache(files, effort::none, x.watch);
      return {};
    });
  }

  outcome<void> revert(const volume& x, const std::string& revision) override {
    return with_image(x, [&](const image& files) -> outcome<void> {
      if (exists(files.dirty()))
        return still_dirty(x);
      auto all = revisions_of(files);
      if (!all)
        return tl::unexpected{std::move(all.error())};
      auto wanted = std::ranges::find_if(
          *all, [&](auto& y) { return fmt::format("{}", y.number) == revision; });
      if (wanted == all->end())
        return no_revision(x, revision);
      if (x.it.revisions_to_keep > 0)
        if (auto done = add_revision(files); !done)
          return done;
      if (auto done = remove_file(files.precache()); !done)
        return done;
      if (auto done = rename_file(wanted->path, files.clean()); !done)
        return done;
      make_precache(files, effort::none, x.watch);
      return {};
    });
  }

private:
  /// A half import is of no use.
  outcome<void> commit_import(const volume& x, const image& files) override {
    auto done = commit(files, files.import(), x.it.revisions_to_keep, effort::none, x.watch);
    if (!done)
      (void)remove_file(files.import()); // the first reason is the one to tell
    return done;
  }

  outcome<void> verify_origin(const volume& x) const {
    auto files = origin_of(x);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    if (!exists(files->clean()))
      return fail(errc::storage, fmt::format("the image '{}' is missing", files->clean()),
                  "its template works on it in place, or it has to be restored from a backup");
    return {};
  }

  /// Hard links tell later whether the origin has changed since.
  outcome<void> start_snapshot(const volume& x, const image& files) const {
    auto origin = origin_of(x);
    if (!origin)
      return tl::unexpected{std::move(origin.error())};
    if (auto made = make_parents(x.it); !made)
      return made;
    if (auto done = remove_file(files.clean()); !done)
      return done;
    if (::link(origin->clean().c_str(), files.clean().c_str()) != 0)
      return cannot("take a snapshot of", origin->clean());
    auto facts = facts_of(files.clean());
    auto grown = facts && x.it.size > static_cast<std::uint64_t>(facts->st_size);
    return make_copy(files.clean(), files.dirty(), x.watch,
                     grown ? std::optional{x.it.size} : std::nullopt, lasting::no);
  }

  static outcome<void> start_in_place(const image& files) {
    if (auto done = prune_revisions(files, 0); !done)
      return done;
    if (auto done = remove_file(files.precache()); !done)
      return done;
    return rename_file(files.clean(), files.dirty());
  }

  bool is_outdated(const volume& x, const image& files) const {
    auto own = x.it.snap_on_start ? facts_of(files.clean()) : std::nullopt;
    auto origin = own ? origin_of(x) : fail(errc::storage, {});
    auto theirs = origin ? facts_of(origin->clean()) : std::nullopt;
    return own && theirs && own->st_ino != theirs->st_ino;
  }
};

} // namespace

outcome<std::shared_ptr<pool>> open_file_reflink_pool(const model::pool& config,
                                                      const environment& with) {
  if (auto sound = directory_of(config); !sound)
    return tl::unexpected{std::move(sound.error())};
  return std::make_shared<file_reflink_pool>(config, with);
}

} // namespace qubes::drivers::storage
