// Logical volumes of an LVM thin pool (spec/storage.md §6). A committed state is only ever replaced
// by renaming: `vid` goes aside, the new one takes its name. Whatever is interrupted in between is
// finished or undone by `repair_volume`, before the next work on the volume.
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/in_progress.hpp"
#include "drivers/storage/lvm.hpp"
#include "drivers/storage/refusals.hpp"
#include "drivers/storage/repaired.hpp"
#include "drivers/storage/revisions.hpp"

#include "model/base/characters.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <shared_mutex>

namespace qubes::drivers::storage {

namespace {

using model::errc;
using model::fail;

/// What runs, what is being imported, and a committed state that a revert replaced.
std::string snap_of(const std::string& vid) {
  return vid + "-snap";
}
std::string import_of(const std::string& vid) {
  return vid + "-import";
}
std::string old_of(const std::string& vid) {
  return vid + "-old";
}

/// Letters LVM allows in names; a hyphen in front would be an option.
bool is_lvm_name(std::string_view x) {
  return !x.empty() && x.front() != '-' && x != "." && x != ".."
         && std::ranges::all_of(x, [](char c) {
              return model::is_alphanumeric(c) || c == '+' || c == '_' || c == '.' || c == '-';
            });
}

/// A committed state of the past, `VID-EPOCH-back`.
struct back_volume {
  std::int64_t epoch = 0;
  std::string id; ///< EPOCH-back
};

/// What LVM has of one volume.
class volumes_of {
public:
  volumes_of(std::shared_ptr<const lvm_listing> all, std::string vid)
      : all_(std::move(all)), vid_(std::move(vid)) {
    auto begin = vid_ + '-';
    for (auto i = all_->lower_bound(begin); i != all_->end() && i->first.starts_with(begin); ++i) {
      auto id = std::string_view{i->first}.substr(begin.size());
      auto epoch = std::int64_t{};
      auto [end, failure] = std::from_chars(id.data(), id.data() + id.size(), epoch);
      if (failure == std::errc{} && epoch >= 0
          && std::string_view{end, id.data() + id.size()} == "-back")
        backs_.push_back({epoch, std::string{id}});
    }
    std::ranges::sort(backs_, {}, &back_volume::epoch);
  }

  const logical_volume* find(const std::string& name) const {
    auto i = all_->find(name);
    return i == all_->end() ? nullptr : &i->second;
  }
  bool has(const std::string& name) const { return find(name) != nullptr; }

  /// Oldest first.
  const std::vector<back_volume>& backs() const { return backs_; }
  std::string name_of(const back_volume& x) const { return vid_ + '-' + x.id; }

  /// The last committed state; "" when there is none.
  std::string current() const {
    if (has(vid_))
      return vid_;
    return backs_.empty() ? std::string{} : name_of(backs_.back());
  }

  std::vector<std::string> present(std::initializer_list<std::string> names) const {
    auto result = std::vector<std::string>{};
    for (auto& x : names)
      if (has(x))
        result.push_back(x);
    return result;
  }

private:
  std::shared_ptr<const lvm_listing> all_;
  std::string vid_;
  std::vector<back_volume> backs_;
};

class lvm_thin_pool final : public pool {
public:
  lvm_thin_pool(std::string group, const std::string& thin_pool, const environment& with)
      : group_(std::move(group)), pool_(group_ + '/' + thin_pool), now_(with.now), lvm_(with) {}

  // -- the pool -----------------------------------------------------------------------------------

  outcome<void> set_up() override {
    auto all = lvm_.list();
    if (!all)
      return tl::unexpected{std::move(all.error())};
    auto i = (*all)->find(pool_);
    if (i == (*all)->end())
      return fail(errc::storage, fmt::format("thin pool '{}' does not exist", pool_),
                  "make it first: lvcreate --type thin-pool");
    if (!i->second.thin_pool())
      return fail(errc::storage, fmt::format("volume '{}' is not a thin pool", pool_));
    return {};
  }

  outcome<model::pool_facts> facts() override {
    auto all = lvm_.list();
    if (!all)
      return tl::unexpected{std::move(all.error())};
    auto result = model::pool_facts{};
    auto i = (*all)->find(pool_);
    if (i == (*all)->end())
      return result;
    auto& it = i->second;
    result.size = it.size;
    result.usage = it.usage();
    result.details = {{"data_size", it.size},
                      {"data_usage", it.usage()},
                      {"metadata_size", it.metadata_size},
                      {"metadata_usage", it.metadata_usage()}};
    return result;
  }

  // -- life ---------------------------------------------------------------------------------------

  outcome<void> create(const volume& x) override {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (!x.it.save_on_stop)
      return {}; // made at every start
    if (has->has(x.it.vid) || has->has(snap_of(x.it.vid)) || !has->backs().empty())
      return fail(errc::storage, fmt::format("volume '{}' is there already", x.it.vid),
                  "another domain left it; rename or remove it first: lvrename, lvremove");
    if (!x.origin)
      return lvm_.create(short_name(x.it.vid), x.it.size, pool_);
    return clone_current(*x.origin, x.it.vid);
  }

  outcome<void> remove(const volume& x) override {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (auto free = under_way_.not_exported(x); !free)
      return free;
    auto& vid = x.it.vid;
    auto names = has->present({snap_of(vid), import_of(vid), old_of(vid), vid});
    for (auto& back : has->backs())
      names.push_back(has->name_of(back));
    auto done = lvm_.remove(names);
    if (done)
      under_way_.end_import(vid);
    return done;
  }

  outcome<void> verify(const volume& x) override {
    if (!x.it.save_on_stop && !x.it.snap_on_start)
      return set_up();
    if (x.it.snap_on_start && !x.origin)
      return no_origin(x);
    auto& it = x.it.snap_on_start ? *x.origin : x.it;
    auto has = read(it);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    return has->current().empty() ? missing(it.vid) : outcome<void>{};
  }

  outcome<void> start(const volume& x) override {
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto& vid = x.it.vid;
    if (auto free = under_way_.not_importing(x); !free)
      return free;
    if (!x.it.snap_on_start && !x.it.save_on_stop) {
      if (auto done = lvm_.remove(has->present({vid})); !done)
        return done;
      return lvm_.create(short_name(vid), x.it.size, pool_);
    }
    if (x.it.snap_on_start) {
      if (!x.origin)
        return no_origin(x);
      if (auto done = lvm_.remove(has->present({snap_of(vid)})); !done)
        return done;
      return clone_current(*x.origin, snap_of(vid));
    }
    if (model::snapshots_disabled(x.it))
      return start_in_place(x);
    if (has->has(snap_of(vid))) // a crash came in between: the guest goes on where it was
      return activate(*has, snap_of(vid));
    return clone_current(x.it, snap_of(vid));
  }

  outcome<void> stop(const volume& x) override {
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto& vid = x.it.vid;
    if (!x.it.save_on_stop)
      return lvm_.remove(has->present({x.it.snap_on_start ? snap_of(vid) : vid}));
    if (has->has(snap_of(vid)))
      return commit(x, snap_of(vid));
    return prune(x); // one that is discarded already must not stay
  }

  bool is_dirty(const volume& x) override {
    auto has = read(x);
    return has && is_dirty(x, *has);
  }

  outcome<model::volume_facts> look(const volume& x) override {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto* it = has->find(snap_of(x.it.vid));
    if (!it)
      it = has->find(has->current());
    auto result = model::volume_facts{.size = it ? it->size : x.it.size,
                                      .usage = it ? it->usage() : 0,
                                      .path = device(x),
                                      .outdated = is_outdated(x, *has),
                                      .revisions = {}};
    if (x.it.save_on_stop)
      for (auto& back : has->backs())
        result.revisions.push_back({back.id, utc_text(back.epoch)});
    return result;
  }

  std::string device(const volume& x) override {
    auto snapshot = x.it.snap_on_start || (x.it.save_on_stop && !model::snapshots_disabled(x.it));
    return mapper_path(snapshot ? snap_of(x.it.vid) : x.it.vid);
  }

  // -- data ---------------------------------------------------------------------------------------

  outcome<std::string> begin_export(const volume& x) override {
    if (x.it.snap_on_start)
      return fail(errc::storage,
                  fmt::format("volume '{}' is a snapshot and has no data of its own", x.it.vid));
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto name = has->current();
    if (name.empty())
      return missing(x.it.vid);
    if (auto done = activate(*has, name); !done)
      return tl::unexpected{std::move(done.error())};
    under_way_.begin_export(x.it.vid);
    return mapper_path(name);
  }

  void end_export(const volume& x, const std::string&) override { under_way_.end_export(x.it.vid); }

  outcome<std::string> begin_import(const volume& x, std::uint64_t bytes) override {
    if (!x.it.save_on_stop)
      return not_implemented(x, "take data: it keeps none");
    auto name = import_of(x.it.vid);
    if (auto clear = ready_for_import(x); !clear)
      return tl::unexpected{std::move(clear.error())};
    if (auto made = lvm_.create(short_name(name), bytes, pool_); !made)
      return tl::unexpected{std::move(made.error())};
    under_way_.begin_import(x.it.vid);
    return "/dev/" + name;
  }

  outcome<void> end_import(const volume& x, bool keep) override {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    under_way_.end_import(x.it.vid);
    auto name = import_of(x.it.vid);
    if (!has->has(name))
      return no_import(x);
    return keep ? commit(x, name) : lvm_.remove({name});
  }

  outcome<void> import_volume(const volume& to, pool& home, const volume& from) override {
    if (!to.it.save_on_stop)
      return {};
    if (auto clear = ready_for_import(to); !clear)
      return clear;
    auto name = import_of(to.it.vid);
    auto theirs = dynamic_cast<lvm_thin_pool*>(&home);
    auto shared = theirs && theirs->pool_ == pool_;
    auto done = shared ? theirs->clone_current(from.it, name)
                       : read_export(*this, to, home, from, [&](auto& facts, auto& path) {
                           return lvm_.create(short_name(name), facts.size, pool_).and_then([&] {
                             return lvm_.fill(name, path);
                           });
                         });
    done = done.and_then([&] { return check_wanted(to); });
    if (!done) {
      if (auto has = read(to))
        (void)lvm_.remove(has->present({name})); // the first reason is the one to tell
      return done;
    }
    return commit(to, name);
  }

  outcome<void> resize(const volume& x, std::uint64_t bytes) override {
    if (!x.it.rw)
      return read_only(x);
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto& vid = x.it.vid;
    auto names = x.it.snap_on_start ? has->present({snap_of(vid)})
                                    : has->present({snap_of(vid), import_of(vid), vid});
    if (names.empty())
      return x.it.save_on_stop ? missing(vid) : outcome<void>{}; // made in the new size at a start
    if (has->find(names.front())->size >= bytes)
      return {}; // LVM rounds up, and refuses what changes nothing
    return lvm_.resize(names.front(), bytes);
  }

  /// The revision is kept as well.
  outcome<void> revert(const volume& x, const std::string& revision) override {
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto& vid = x.it.vid;
    if (is_dirty(x, *has))
      return too_dirty(x, "revert");
    if (auto free = under_way_.not_importing(x); !free)
      return free;
    if (auto free = under_way_.not_exported(x); !free)
      return free;
    auto wanted = std::ranges::find(has->backs(), revision, &back_volume::id);
    if (wanted == has->backs().end())
      return no_revision(x, revision);
    if (auto done = lvm_.clone(has->name_of(*wanted), import_of(vid)); !done)
      return done;
    if (auto done = replace(vid, old_of(vid), import_of(vid)); !done)
      return done;
    return lvm_.remove({old_of(vid)});
  }

private:
  static std::string short_name(const std::string& vid) { return vid.substr(vid.find('/') + 1); }

  /// Refuses ids that are not of this pool.
  outcome<volumes_of> read(const model::volume& x) {
    auto slash = x.vid.find('/');
    if (slash == x.vid.npos || std::string_view{x.vid}.substr(0, slash) != group_
        || !is_lvm_name(std::string_view{x.vid}.substr(slash + 1)))
      return fail(errc::storage, fmt::format("'{}' is no volume id", x.vid),
                  fmt::format("{}/NAME is", group_));
    return lvm_.list().map([&](auto all) { return volumes_of{std::move(all), x.vid}; });
  }
  outcome<volumes_of> read(const volume& x) { return read(x.it); }

  // -- what is going on ---------------------------------------------------------------------------

  static bool is_dirty(const volume& x, const volumes_of& has) {
    return x.it.save_on_stop && has.has(snap_of(x.it.vid));
  }

  outcome<void> ready_for_import(const volume& x) {
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (is_dirty(x, *has))
      return too_dirty(x, "import data to");
    return under_way_.not_importing(x);
  }

  /// LVM tells the new name of an origin whose committed state was replaced.
  outcome<bool> outdated(const volume& x, const volumes_of& has) {
    auto* snap = has.find(snap_of(x.it.vid));
    auto theirs = read(*x.origin);
    if (!snap || !theirs)
      return false;
    return group_ + '/' + snap->origin != theirs->current();
  }
  bool is_outdated(const volume& x, const volumes_of& has) {
    return x.it.snap_on_start && x.origin && outdated(x, has).value_or(false);
  }

  // -- steps --------------------------------------------------------------------------------------

  outcome<void> activate(const volumes_of& has, const std::string& name) {
    auto* it = has.find(name);
    return it && !it->active() ? lvm_.activate(name) : outcome<void>{};
  }

  /// The origin keeps its name until the snapshot is taken.
  outcome<void> clone_current(const model::volume& from, const std::string& to) {
    auto hold = std::shared_lock{names_};
    auto has = read(from);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto name = has->current();
    return name.empty() ? missing(from.vid) : lvm_.clone(name, to);
  }

  /// `vid` goes aside and `with` takes its name, or all stays as it was.
  outcome<void> replace(const std::string& vid, const std::string& aside, const std::string& with) {
    auto hold = std::unique_lock{names_};
    auto all = lvm_.list();
    if (!all)
      return tl::unexpected{std::move(all.error())};
    auto moved = (*all)->contains(vid);
    if (moved)
      if (auto done = lvm_.rename(vid, aside); !done)
        return done;
    auto done = lvm_.rename(with, vid);
    if (!done && moved)
      (void)lvm_.rename(aside, vid); // the first reason is the one to tell
    return done;
  }

  /// `with` becomes the committed state, the present one a revision.
  outcome<void> commit(const volume& x, const std::string& with) {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto epoch = std::int64_t{now_()};
    if (!has->backs().empty()) // clocks go back, and two stops may come within a second
      epoch = std::max(epoch, has->backs().back().epoch + 1);
    auto& vid = x.it.vid;
    if (auto done = replace(vid, fmt::format("{}-{}-back", vid, epoch), with); !done)
      return done;
    return prune(x);
  }

  /// Removes the oldest revisions beyond those to keep; never the only state there is.
  outcome<void> prune(const volume& x) {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto keep = static_cast<std::size_t>(std::max(x.it.revisions_to_keep, std::int64_t{0}));
    if (!has->has(x.it.vid) || has->backs().size() <= keep || under_way_.is_exported(x.it.vid))
      return {};
    auto names = std::vector<std::string>{};
    for (auto i = std::size_t{0}; i + keep < has->backs().size(); ++i)
      names.push_back(has->name_of(has->backs()[i]));
    return lvm_.remove(names);
  }

  /// Nothing to go back to is kept of a volume that is worked on in place.
  outcome<void> start_in_place(const volume& x) {
    auto& vid = x.it.vid;
    auto has = read(x);
    if (has && has->has(snap_of(vid))) // written before it was told to work in place
      if (auto done = commit(x, snap_of(vid)); !done)
        return done;
    if (auto done = prune(x); !done)
      return done;
    has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    return has->has(vid) ? activate(*has, vid) : missing(vid);
  }

  // -- after a crash ------------------------------------------------------------------------------

  /// The step that brings the volume closer to rest: `vid` there, nothing half done. False when
  /// there is none.
  outcome<bool> repair(const volume& x, const volumes_of& has) {
    auto& vid = x.it.vid;
    auto did = [](outcome<void> done) { return std::move(done).map([] { return true; }); };
    if (has.has(vid)) {
      auto left = has.present({old_of(vid)});
      if (has.has(import_of(vid)) && !under_way_.is_importing(vid))
        left.push_back(import_of(vid)); // the import may not be whole
      return left.empty() ? outcome<bool>{false} : did(lvm_.remove(left));
    }
    if (has.has(snap_of(vid)))
      return false; // what the guest wrote; the next stop commits it
    if (has.has(import_of(vid)) && !under_way_.is_importing(vid)) {
      // `vid` goes aside when the import is whole, and only then.
      auto whole = has.has(old_of(vid)) || !has.backs().empty();
      return did(whole ? lvm_.rename(import_of(vid), vid) : lvm_.remove({import_of(vid)}));
    }
    if (has.has(old_of(vid)))
      return did(lvm_.rename(old_of(vid), vid));
    if (!has.backs().empty()) // a revert of the stock daemon
      return did(lvm_.clone(has.current(), vid));
    return false;
  }

  outcome<volumes_of> repair_volume(const volume& x) {
    if (!x.it.save_on_stop)
      return read(x);
    return repaired([&] { return read(x); }, [&](auto& has) { return repair(x, has); }, 4);
  }

  const std::string group_;
  const std::string pool_; ///< VG/POOL
  const std::function<std::time_t()> now_;
  lvm lvm_;
  std::shared_mutex names_; ///< held while a call relies on, or changes, what a name stands for
  in_progress under_way_;
};

} // namespace

outcome<std::shared_ptr<pool>> open_lvm_thin_pool(const model::pool& config,
                                                  const environment& with) {
  for (auto option : {"volume_group", "thin_pool"})
    if (!is_lvm_name(config.attribute(option)))
      return fail(errc::storage, fmt::format("'{}' is no name of LVM", config.attribute(option)),
                  fmt::format("{} takes letters, digits and + _ . -", option));
  return std::make_shared<lvm_thin_pool>(std::string{config.attribute("volume_group")},
                                         std::string{config.attribute("thin_pool")}, with);
}

} // namespace qubes::drivers::storage
