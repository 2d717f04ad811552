// Volumes of a ZFS dataset (spec/storage.md §7). The guest writes to `vid` itself; the last
// committed state is its newest clean mark, a snapshot, taken before the volume is said to be clean
// and removed after the next one. Another dataset takes its place by renaming only: `vid` goes
// aside, the new one takes its name. What is interrupted is finished or undone by `repair_volume`,
// before the next work on the volume.
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/in_progress.hpp"
#include "drivers/storage/refusals.hpp"
#include "drivers/storage/repaired.hpp"
#include "drivers/storage/revisions.hpp"
#include "drivers/storage/zfs_commands.hpp"

#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <shared_mutex>

namespace qubes::drivers::storage {

namespace {

using model::errc;
using model::fail;

constexpr std::string_view clean_prefix = "qubes-clean-";
constexpr std::string_view revision_prefix = "qubes:";
constexpr auto second = std::int64_t{1000000}; ///< in microseconds

/// Letters ZFS allows in names. A dot in front would be one of the pool's own, a hyphen an option.
bool is_component(std::string_view x) {
  return !x.empty() && x.front() != '-' && x.front() != '.' && std::ranges::all_of(x, [](char c) {
    return model::is_alphanumeric(c) || c == '_' || c == '.' || c == ':' || c == '-';
  });
}

bool is_path(std::string_view x) {
  for (auto slash = x.find('/'); slash != x.npos; slash = x.find('/')) {
    if (!is_component(x.substr(0, slash)))
      return false;
    x.remove_prefix(slash + 1);
  }
  return is_component(x);
}

/// Where the parts of one volume are.
struct places {
  places(const std::string& container, const std::string& vid) : volume(vid) {
    auto flat = vid;
    std::ranges::replace(flat, '/', '_');
    import = container + "/.importing/" + flat;
    exports = container + "/.exported/" + flat;
    draft = container + "/.tmp/" + flat;
    aside = draft + "-old";
  }

  std::string volume;
  std::string import;  ///< being written by another program
  std::string exports; ///< a clone for each reader below it
  std::string draft;   ///< about to take the volume's place
  std::string aside;   ///< what had its place before
};

/// A committed state of the past, `qubes:CAUSE:EPOCH.ffffff`.
struct kept_state {
  std::string id;
  std::int64_t time = 0; ///< microseconds
  std::uint64_t order = 0;
};

std::optional<std::int64_t> time_of(std::string_view id) {
  if (!id.starts_with(revision_prefix))
    return std::nullopt;
  id.remove_prefix(id.rfind(':') + 1);
  auto seconds = std::int64_t{};
  auto [rest, failure] = std::from_chars(id.data(), id.data() + id.size(), seconds);
  if (failure != std::errc{} || seconds < 0)
    return std::nullopt;
  auto fraction = std::string{rest, id.data() + id.size()};
  if (fraction.empty())
    return seconds * second;
  auto micros = std::int64_t{};
  auto [end, wrong] =
      std::from_chars(fraction.data() + 1, fraction.data() + fraction.size(), micros);
  if (fraction.size() != 7 || fraction[0] != '.' || wrong != std::errc{} || micros < 0
      || end != fraction.data() + fraction.size())
    return std::nullopt;
  return seconds * second + micros;
}

/// What ZFS has of one volume.
class state_of {
public:
  state_of(std::shared_ptr<const zfs_listing> all, const std::string& vid)
      : all_(std::move(all)), it_(find(vid)) {
    if (!it_)
      return;
    for (auto& x : it_->snapshots)
      if (x.removed)
        continue;
      else if (x.name.starts_with(clean_prefix))
        cleans_.push_back(x.name);
      else if (auto time = time_of(x.name))
        revisions_.push_back({x.name, *time, x.order});
    newest_clean_ = 0;
    for (auto& x : it_->snapshots)
      if (!cleans_.empty() && x.name == cleans_.back())
        newest_clean_ = x.order;
  }

  /// What there is of another dataset.
  state_of seen_as(const std::string& name) const { return {all_, name}; }

  const zfs_dataset* find(const std::string& name) const {
    auto i = all_->find(name);
    return i == all_->end() ? nullptr : &i->second;
  }
  bool has(const std::string& name) const { return find(name) != nullptr; }

  /// Null when the volume is not there.
  const zfs_dataset* it() const { return it_; }
  bool dirty() const { return it_ && it_->dirty; }

  /// Oldest first.
  const std::vector<std::string>& cleans() const { return cleans_; }
  const std::vector<kept_state>& revisions() const { return revisions_; }

  /// Nothing was written since.
  bool newest_is_kept() const {
    return !revisions_.empty() && !cleans_.empty() && revisions_.back().order > newest_clean_;
  }

  /// The snapshot that is the last committed state; "" when there is none.
  std::string committed() const {
    if (!cleans_.empty())
      return cleans_.back();
    return revisions_.empty() ? std::string{} : revisions_.back().id;
  }

  bool has_below(const std::string& name) const {
    auto i = all_->lower_bound(name + '/');
    return i != all_->end() && i->first.starts_with(name + '/');
  }

private:
  std::shared_ptr<const zfs_listing> all_;
  const zfs_dataset* it_;
  std::vector<std::string> cleans_;
  std::vector<kept_state> revisions_;
  std::uint64_t newest_clean_ = 0;
};

class zfs_pool final : public pool {
public:
  zfs_pool(std::string container, bool forensics, const environment& with)
      : container_(std::move(container)), forensics_(forensics), now_(with.now),
        random_(with.random), zfs_(container_, with) {}

  // -- the pool -----------------------------------------------------------------------------------

  outcome<void> set_up() override { return zfs_.set_up(); }

  outcome<model::pool_facts> facts() override {
    return zfs_.size().map([](const zpool_size& x) {
      return model::pool_facts{.size = x.size,
                               .usage = x.usage,
                               .details = {{"data_size", x.size}, {"data_usage", x.usage}},
                               .included_in = {}};
    });
  }

  // -- life ---------------------------------------------------------------------------------------

  outcome<void> create(const volume& x) override {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (!x.it.save_on_stop)
      return {}; // made at every start
    if (has->it())
      return fail(errc::storage, fmt::format("volume '{}' is there already", x.it.vid),
                  "another domain left it; rename or remove it first: zfs rename, zfs destroy");
    auto done = zfs_.create(x.it.vid, x.it.size, false).and_then([&] {
      return seal(x, x.it.vid, "after-create");
    });
    if (!done)
      discard(x.it.vid);
    return done;
  }

  outcome<void> remove(const volume& x) override {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (auto free = under_way_.not_exported(x); !free)
      return free;
    auto at = places{container_, x.it.vid};
    for (auto& name : {at.import, at.exports, at.draft, at.aside, at.volume})
      if (has->has(name))
        if (auto done = zfs_.destroy(name); !done)
          return done;
    under_way_.end_import(x.it.vid);
    auto home = x.it.vid.substr(0, x.it.vid.rfind('/'));
    auto left = read(x);
    if (left && home != container_ && left->has(home) && !left->has_below(home))
      zfs_.destroy_empty(home);
    return {};
  }

  outcome<void> verify(const volume& x) override {
    if (x.it.snap_on_start && !x.origin)
      return no_origin(x);
    auto& it = x.it.snap_on_start ? *x.origin : x.it;
    auto has = read(it);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    return it.save_on_stop && !has->it() ? missing(it.vid) : outcome<void>{};
  }

  outcome<void> start(const volume& x) override {
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (auto free = under_way_.not_importing(x); !free)
      return free;
    auto done = x.it.snap_on_start  ? start_snapshot(x, *has)
                : x.it.save_on_stop ? start_kept(x, *has)
                                    : make_anew(x, *has);
    return done ? zfs_.set_read_only(x.it.vid, !x.it.rw) : done;
  }

  outcome<void> stop(const volume& x) override {
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (!has->it())
      return {};
    if (x.it.save_on_stop)
      return commit(x, *has);
    if (x.it.snap_on_start && forensics_)
      return has->dirty() ? zfs_.set_dirty(x.it.vid, false) : outcome<void>{};
    return zfs_.destroy(x.it.vid);
  }

  bool is_dirty(const volume& x) override {
    auto has = read(x);
    return has && x.it.save_on_stop && has->dirty();
  }

  outcome<model::volume_facts> look(const volume& x) override {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto result = model::volume_facts{.size = has->it() ? has->it()->size : x.it.size,
                                      .usage = has->it() ? has->it()->usage : 0,
                                      .path = device(x),
                                      .outdated = is_outdated(x, *has),
                                      .revisions = {}};
    if (x.it.save_on_stop)
      for (auto& y : has->revisions())
        result.revisions.push_back({y.id, utc_text(y.time / second)});
    return result;
  }

  std::string device(const volume& x) override { return zfs_.device(x.it.vid); }

  // -- data ---------------------------------------------------------------------------------------

  outcome<std::string> begin_export(const volume& x) override {
    if (!x.it.save_on_stop)
      return not_implemented(x, "be exported: it keeps no data");
    auto name = places{container_, x.it.vid}.exports + '/' + letters();
    under_way_.begin_export(x.it.vid);
    if (auto done = clone_committed(x.it, name, true); !done) {
      under_way_.end_export(x.it.vid);
      return tl::unexpected{std::move(done.error())};
    }
    return zfs_.device(name);
  }

  void end_export(const volume& x, const std::string& path) override {
    auto exports = places{container_, x.it.vid}.exports;
    auto hold = std::unique_lock{names_};
    under_way_.end_export(x.it.vid);
    // What is not removed now is by the next start or stop.
    (void)zfs_.destroy(under_way_.is_exported(x.it.vid) ? exports + path.substr(path.rfind('/'))
                                                        : exports);
  }

  outcome<std::string> begin_import(const volume& x, std::uint64_t bytes) override {
    if (!x.it.save_on_stop)
      return not_implemented(x, "take data: it keeps none");
    if (auto clear = ready_for_import(x); !clear)
      return tl::unexpected{std::move(clear.error())};
    auto name = places{container_, x.it.vid}.import;
    if (auto made = zfs_.create(name, bytes, false); !made) {
      discard(name);
      return tl::unexpected{std::move(made.error())};
    }
    under_way_.begin_import(x.it.vid);
    return zfs_.device(name);
  }

  outcome<void> end_import(const volume& x, bool keep) override {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    under_way_.end_import(x.it.vid);
    auto name = places{container_, x.it.vid}.import;
    if (!has->has(name))
      return no_import(x);
    return keep ? adopt(x, name, "after-import-data") : zfs_.destroy(name);
  }

  outcome<void> import_volume(const volume& to, pool& home, const volume& from) override {
    if (!to.it.save_on_stop)
      return {};
    if (auto clear = ready_for_import(to); !clear)
      return clear;
    auto draft = places{container_, to.it.vid}.draft;
    auto theirs = dynamic_cast<zfs_pool*>(&home);
    auto shared = theirs && theirs->container_ == container_;
    if (shared && !from.it.save_on_stop)
      return not_implemented(from, "be copied: it keeps no data");
    auto done = shared ? theirs->clone_committed(from.it, draft, false)
                       : read_export(*this, to, home, from, [&](auto& facts, auto& path) {
                           return zfs_.create(draft, facts.size, false).and_then([&] {
                             return zfs_.fill(draft, path);
                           });
                         });
    done = done.and_then([&] { return check_wanted(to); });
    if (!done) {
      discard(draft);
      return done;
    }
    return adopt(to, draft, "after-import-volume");
  }

  outcome<void> resize(const volume& x, std::uint64_t bytes) override {
    if (!x.it.rw)
      return read_only(x);
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (!has->it())
      return x.it.save_on_stop ? missing(x.it.vid) : outcome<void>{}; // made so at a start
    if (has->it()->size >= bytes)
      return {}; // ZFS takes whole blocks only
    auto done = zfs_.resize(x.it.vid, bytes);
    if (!done || !x.it.save_on_stop || has->dirty() || has->cleans().empty())
      return done;
    return mark_clean(x.it.vid).and_then([&] { return prune(x); }); // copies have that size as well
  }

  /// The revision is gone then, and so are those that came after it.
  outcome<void> revert(const volume& x, const std::string& revision) override {
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (has->dirty())
      return too_dirty(x, "revert");
    if (auto free = under_way_.not_importing(x); !free)
      return free;
    if (std::ranges::find(has->revisions(), revision, &kept_state::id) == has->revisions().end())
      return no_revision(x, revision);
    auto snapshot = x.it.vid + '@' + revision;
    auto done = roll_back(snapshot);
    if (!done && has_clones_in_the_way(done.error())) // of later states, which run
      return replace_by(x, snapshot).and_then([&] { return drop_snapshot(snapshot); });
    return done.and_then([&] { return drop_snapshot(snapshot); })
        .and_then([&] { return mark_clean(x.it.vid); })
        .and_then([&] { return prune(x); });
  }

private:
  /// Refuses ids that are not of this pool.
  outcome<state_of> read(const model::volume& x) {
    auto begin = container_ + '/';
    if (!x.vid.starts_with(begin) || !is_path(std::string_view{x.vid}.substr(begin.size())))
      return fail(errc::storage, fmt::format("'{}' is no volume id", x.vid),
                  fmt::format("{}NAME is", begin));
    return zfs_.list().map([&](auto all) { return state_of{std::move(all), x.vid}; });
  }
  outcome<state_of> read(const volume& x) { return read(x.it); }

  /// Eight letters that cannot be guessed.
  std::string letters() const {
    auto result = std::string{};
    for (auto number = random_(); result.size() < 8; number /= 26)
      result += static_cast<char>('a' + number % 26);
    return result;
  }

  outcome<void> ready_for_import(const volume& x) {
    auto has = repair_volume(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (has->dirty())
      return too_dirty(x, "import data to");
    return under_way_.not_importing(x);
  }

  /// A clone tells what it began as.
  bool is_outdated(const volume& x, const state_of& has) {
    if (!x.it.snap_on_start || !x.origin || !has.it())
      return false;
    auto theirs = read(*x.origin);
    return theirs && has.it()->origin != x.origin->vid + '@' + theirs->committed();
  }

  // -- starts -------------------------------------------------------------------------------------

  outcome<void> make_anew(const volume& x, const state_of& has) {
    if (has.it())
      if (auto done = zfs_.destroy(x.it.vid); !done)
        return done;
    return zfs_.create(x.it.vid, x.it.size, true);
  }

  outcome<void> start_snapshot(const volume& x, const state_of& has) {
    if (has.dirty()) // a crash came in between: the guest goes on where it was
      return {};
    if (!x.origin)
      return no_origin(x);
    auto draft = places{container_, x.it.vid}.draft;
    if (auto done = clone_committed(*x.origin, draft, true); !done)
      return done;
    if (has.it())
      if (auto done = zfs_.destroy(x.it.vid); !done)
        return done;
    return zfs_.rename(draft, x.it.vid).and_then([&] { return zfs_.set_dirty(x.it.vid, true); });
  }

  outcome<void> start_kept(const volume& x, const state_of& has) {
    if (!has.it())
      return missing(x.it.vid);
    if (has.dirty()) // a crash came in between: the guest goes on where it was
      return {};
    auto in_place = model::snapshots_disabled(x.it); // nothing to go back to is kept
    auto kept = in_place ? outcome<void>{} : add_revision(x, x.it.vid, "before-start", has);
    if (kept)
      kept = prune(x, in_place);
    if (!kept)
      return kept;
    auto hold = std::unique_lock{names_}; // not while another call marks it as clean
    return zfs_.set_dirty(x.it.vid, true);
  }

  // -- committed states ---------------------------------------------------------------------------

  outcome<void> mark_clean(const std::string& name) {
    return zfs_.snapshot(fmt::format("{}@{}{}", name, clean_prefix, letters()));
  }

  outcome<void> add_revision(const volume& x, const std::string& name, std::string_view cause,
                             const state_of& has) {
    if (x.it.revisions_to_keep <= 0 || has.newest_is_kept())
      return {};
    auto time = std::int64_t{now_()} * second;
    if (!has.revisions().empty()) // clocks go back, and two starts may come within a second
      time = std::max(time, has.revisions().back().time + 1);
    return zfs_.snapshot(fmt::format("{}@{}{}:{}.{:06}", name, revision_prefix, cause,
                                     time / second, time % second));
  }

  /// The contents of a dataset that is, or is about to be, this volume are a committed state.
  outcome<void> seal(const volume& x, const std::string& name, std::string_view cause) {
    auto all = zfs_.list();
    if (!all)
      return tl::unexpected{std::move(all.error())};
    auto done = add_revision(x, name, cause, state_of{*all, name});
    return done && !model::snapshots_disabled(x.it) ? mark_clean(name) : done;
  }

  /// Also of a volume that is clean: something may have been left undone.
  outcome<void> commit(const volume& x, const state_of& has) {
    auto in_place = model::snapshots_disabled(x.it);
    if (in_place && has.dirty()) // older than what the guest wrote
      if (auto done = prune(x, true); !done)
        return done;
    if (!in_place && (has.dirty() || has.cleans().empty()))
      if (auto done = mark_clean(x.it.vid); !done)
        return done;
    if (has.dirty())
      if (auto done = zfs_.set_dirty(x.it.vid, false); !done)
        return done;
    return prune(x);
  }

  /// Removes the oldest revisions beyond those to keep, and all clean marks but the last.
  outcome<void> prune(const volume& x, bool also_the_last = false) {
    auto hold = std::unique_lock{names_};
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto keep = static_cast<std::size_t>(std::max(x.it.revisions_to_keep, std::int64_t{0}));
    auto names = has->cleans();
    if (!names.empty() && !also_the_last)
      names.pop_back();
    for (auto i = std::size_t{0}; i + keep < has->revisions().size(); ++i)
      names.push_back(has->revisions()[i].id);
    for (auto& name : names)
      if (auto done = zfs_.destroy_snapshot(x.it.vid + '@' + name); !done)
        return done;
    return {};
  }

  outcome<void> drop_snapshot(const std::string& name) {
    auto hold = std::unique_lock{names_};
    return zfs_.destroy_snapshot(name);
  }

  outcome<void> roll_back(const std::string& snapshot) {
    auto hold = std::unique_lock{names_};
    return zfs_.roll_back(snapshot);
  }

  // -- copies -------------------------------------------------------------------------------------

  /// Where the last committed state is: a kill may have come between two names.
  outcome<std::pair<std::string, state_of>> find_committed(const model::volume& x) {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    if (has->it())
      return std::pair{x.vid, std::move(*has)};
    auto aside = places{container_, x.vid}.aside;
    if (!has->has(aside))
      return missing(x.vid);
    return std::pair{aside, has->seen_as(aside)};
  }

  /// The clean mark stays until the clone is made.
  outcome<void> clone_committed(const model::volume& from, const std::string& to, bool passing) {
    if (auto hold = std::shared_lock{names_}; true) {
      auto found = find_committed(from);
      if (!found)
        return tl::unexpected{std::move(found.error())};
      auto& [name, has] = *found;
      if (!has.cleans().empty())
        return zfs_.clone(name + '@' + has.cleans().back(), to, passing);
    }
    auto hold = std::unique_lock{names_};
    auto found = find_committed(from);
    if (found && !found->second.dirty() && found->second.cleans().empty()) {
      if (auto done = mark_clean(found->first); !done)
        return done;
      found = find_committed(from);
    }
    if (!found)
      return tl::unexpected{std::move(found.error())};
    auto& [name, has] = *found;
    if (has.committed().empty())
      return fail(errc::storage, fmt::format("volume '{}' must be stopped first", from.vid),
                  "it is written in place, and keeps no other state");
    return zfs_.clone(name + '@' + has.committed(), to, passing);
  }

  /// What is half made and not needed.
  void discard(const std::string& name) {
    if (auto all = zfs_.list(); all && (*all)->contains(name))
      (void)zfs_.destroy(name); // the first reason is the one to tell
  }

  // -- exchanges ----------------------------------------------------------------------------------

  /// `with` becomes the volume; what was it is gone, with its revisions.
  outcome<void> adopt(const volume& x, const std::string& with, std::string_view cause) {
    auto done = seal(x, with, cause).and_then([&] { return replace(x, with); });
    if (!done)
      discard(with);
    return done ? drop_aside(x) : done;
  }

  /// A roll-back that leaves alone what runs on later states.
  outcome<void> replace_by(const volume& x, const std::string& snapshot) {
    auto draft = places{container_, x.it.vid}.draft;
    auto done = zfs_.clone(snapshot, draft, false)
                    .and_then([&] { return mark_clean(draft); })
                    .and_then([&] { return replace(x, draft); });
    if (!done)
      discard(draft);
    return done ? drop_aside(x) : done;
  }

  /// The volume goes aside and `with` takes its name, or all stays as it was.
  outcome<void> replace(const volume& x, const std::string& with) {
    auto at = places{container_, x.it.vid};
    auto hold = std::unique_lock{names_};
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto moved = has->it() != nullptr;
    if (moved)
      if (auto done = zfs_.rename(at.volume, at.aside); !done)
        return done;
    auto done = zfs_.rename(with, at.volume);
    if (!done && moved)
      (void)zfs_.rename(at.aside, at.volume); // the first reason is the one to tell
    return done;
  }

  /// A volume that began as one of its own earlier states inherits those before.
  outcome<void> drop_aside(const volume& x) {
    auto has = read(x);
    if (!has)
      return tl::unexpected{std::move(has.error())};
    auto aside = places{container_, x.it.vid}.aside;
    if (!has->has(aside))
      return {};
    auto hold = std::unique_lock{names_};
    if (has->it() && has->it()->origin.starts_with(aside + '@'))
      if (auto done = zfs_.promote(x.it.vid); !done)
        return done;
    return zfs_.destroy(aside);
  }

  // -- after a crash ------------------------------------------------------------------------------

  /// The step that brings the volume closer to rest: in its place, nothing half done. False when
  /// there is none.
  outcome<bool> repair(const volume& x, const state_of& has) {
    auto at = places{container_, x.it.vid};
    auto did = [](outcome<void> done) { return std::move(done).map([] { return true; }); };
    if (has.has(at.exports) && !under_way_.is_exported(x.it.vid))
      return did(zfs_.destroy(at.exports));
    auto made = has.has(at.draft)                                          ? at.draft
                : has.has(at.import) && !under_way_.is_importing(x.it.vid) ? at.import
                                                                           : std::string{};
    if (!has.has(at.aside)) // what was made may not be whole
      return made.empty() ? outcome<bool>{false} : did(zfs_.destroy(made));
    if (has.it())
      return did(drop_aside(x));
    return did(
        zfs_.rename(made.empty() ? at.aside : made, at.volume)); // whole, or nothing went aside
  }

  outcome<state_of> repair_volume(const volume& x) {
    return repaired([&] { return read(x); }, [&](auto& has) { return repair(x, has); }, 5);
  }

  const std::string container_;
  const bool forensics_;
  const std::function<std::time_t()> now_;
  const std::function<std::uint64_t()> random_;
  zfs_commands zfs_;
  std::shared_mutex names_; ///< held while a call relies on, or changes, what a name stands for
  in_progress under_way_;
};

} // namespace

outcome<std::shared_ptr<pool>> open_zfs_pool(const model::pool& config, const environment& with) {
  auto container = std::string{config.attribute("container")};
  if (!is_path(container))
    return fail(errc::storage, fmt::format("'{}' is no name of a ZFS dataset", container),
                "container is POOL or POOL/PATH of letters, digits and _ . : -");
  auto forensics = model::parse_boolean(config.attribute("snap_on_start_forensics"));
  return std::make_shared<zfs_pool>(std::move(container), forensics.value_or(false), with);
}

} // namespace qubes::drivers::storage
