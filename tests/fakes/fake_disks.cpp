#include "tests/fakes/fake_disks.hpp"

#include "model/base/literal.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::drivers {

using model::errc;
using model::fail;

void fake_disks::set_script(script fate) {
  auto hold = std::lock_guard{guard_};
  fate_ = std::move(fate);
}

void fake_disks::set_work_hook(work_hook x) {
  auto hold = std::lock_guard{guard_};
  work_hook_ = std::move(x);
}

void fake_disks::set_room(std::optional<std::uint64_t> x) {
  auto hold = std::lock_guard{guard_};
  room_ = x;
}

std::set<std::string> fake_disks::importing() const {
  auto hold = std::lock_guard{guard_};
  auto result = std::set<std::string>{};
  for (auto& [vid, bytes] : importing_)
    result.insert(vid);
  return result;
}

/// Runs without the guard, so that other calls go on meanwhile.
outcome<void> fake_disks::do_work(disk_call which, const std::string& vid,
                                  const supervision& watch) const {
  auto work = [&] {
    auto hold = std::lock_guard{guard_};
    return work_hook_;
  }();
  return work ? work(which, vid, watch) : outcome<void>{};
}

std::set<std::string> fake_disks::owners() const {
  auto hold = std::lock_guard{guard_};
  return made_;
}

outcome<void> fake_disks::admit(disk_call which, const std::string& what) const {
  if (auto why = fate_ ? fate_(which, what) : std::nullopt)
    return tl::unexpected{std::move(*why)};
  return {};
}

outcome<void> fake_disks::make_home(const model::system&, const model::domain& x) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::create, x.name.str()).and_then([&]() -> outcome<void> {
    if (!made_.insert(x.name.str()).second)
      return fail(errc::storage, fmt::format("'{}' has disks already", x.name.str()));
    homes_[x.name.str()] = x.uuid;
    to_remove_.insert_or_assign(x.uuid, x);
    if (tell_)
      tell_(fmt::format("{}/{}", row(x.type).directory, x.name.str()));
    return {};
  });
}

outcome<void> fake_disks::remove_home(const model::domain& x) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::remove, x.name.str()).map([&] {
    if (auto home = homes_.extract(x.name.str()); !home.empty() && home.mapped() != x.uuid)
      harm_.push_back(
          fmt::format("the directory of '{}' is removed with a former one's", x.name.str()));
    made_.erase(x.name.str());
    to_remove_.erase(x.uuid);
  });
}

outcome<void> fake_disks::note_removal(const model::domain& x) {
  auto hold = std::lock_guard{guard_};
  to_remove_.insert_or_assign(x.uuid, x);
  return {};
}

outcome<void> fake_disks::forget_removal(const model::domain& x) {
  auto hold = std::lock_guard{guard_};
  to_remove_.erase(x.uuid);
  return {};
}

outcome<noted_removals> fake_disks::removals() {
  auto hold = std::lock_guard{guard_};
  auto result = noted_removals{};
  for (auto& [uuid, x] : to_remove_)
    result.domains.push_back(x);
  return result;
}

outcome<void> fake_disks::create(const model::system&, const model::domain& owner,
                                 const model::volume& it) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::create, it.vid).map([&] {
    if (committed_.contains(it.vid))
      harm_.push_back(fmt::format("'{}' is made over what is there", it.vid));
    uuids_[it.vid] = owner.uuid;
    sizes_[it.vid] = it.size;
    commit(it.vid, std::make_shared<std::string>());
  });
}

outcome<void> fake_disks::remove(const model::system&, const model::domain& owner,
                                 const model::volume& it) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::remove, it.vid).map([&] {
    if (auto of = uuids_.find(it.vid); of != uuids_.end() && of->second != owner.uuid)
      harm_.push_back(fmt::format("'{}' is removed with a former one's", it.vid));
    if (readers_[it.vid] + exported_.count(it.vid) > 0)
      harm_.push_back(fmt::format("'{}' is removed while somebody reads it", it.vid));
    for (auto* x : {&committed_, &worked_on_})
      x->erase(it.vid);
    running_.erase(it.vid);
    importing_.erase(it.vid);
    sizes_.erase(it.vid);
    uuids_.erase(it.vid);
  });
}

outcome<void> fake_disks::verify(const model::system&, const model::domain&,
                                 const model::volume& it) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::verify, it.vid);
}

outcome<std::string> fake_disks::start(const model::system&, const model::domain&,
                                       const model::volume& it, const supervision& watch) {
  if (auto done = do_work(disk_call::start, it.vid, watch); !done)
    return tl::unexpected{std::move(done.error())};
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::start, it.vid).map([&] {
    running_.insert(it.vid);
    importing_.erase(it.vid);
    auto in_place = model::snapshots_disabled(it);
    if (it.save_on_stop && !worked_on_.contains(it.vid))
      worked_on_[it.vid] =
          in_place ? committed(it.vid) : std::make_shared<std::string>(*committed(it.vid));
    if (it.snap_on_start)
      origins_[it.vid] = {it.source, commits_[it.source]};
    return "/dev/" + it.vid;
  });
}

outcome<void> fake_disks::stop(const model::system&, const model::domain&, const model::volume& it,
                               const supervision& watch) {
  if (auto done = do_work(disk_call::stop, it.vid, watch); !done)
    return done;
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::stop, it.vid).map([&] {
    if (auto data = worked_on_.extract(it.vid); !data.empty())
      commit(it.vid, std::move(data.mapped()));
    if (running_.erase(it.vid) > 0 && it.save_on_stop)
      ++commits_[it.vid];
    origins_.erase(it.vid);
  });
}

std::set<std::string> fake_disks::running() const {
  auto hold = std::lock_guard{guard_};
  return running_;
}

void fake_disks::leave_running(const std::string& vid) {
  auto hold = std::lock_guard{guard_};
  running_.insert(vid);
}

outcome<model::volume_facts> fake_disks::look(const model::system&, const model::domain& x,
                                              const model::volume& it) {
  auto hold = std::lock_guard{guard_};
  uuids_.try_emplace(it.vid, x.uuid);
  return admit(disk_call::look, it.vid).map([&] {
    auto origin = origins_.find(it.vid);
    return model::volume_facts{.size = size_of(it),
                               .usage = 0,
                               .path = it.vid,
                               .outdated =
                                   origin != origins_.end()
                                   && origin->second.second != commits_[origin->second.first],
                               .revisions = revisions_of(it)};
  });
}

/// Each volume that keeps its data has one earlier state.
std::vector<model::revision> fake_disks::revisions_of(const model::volume& it) {
  if (!it.save_on_stop)
    return {};
  return {{.id = "1", .time = "2026-01-01T00:00:00"}};
}

/// A volume that keeps nothing is made anew at every start, with the size of its record.
std::uint64_t fake_disks::size_of(const model::volume& it) const {
  auto known = sizes_.find(it.vid);
  return known == sizes_.end() || !it.save_on_stop ? it.size : known->second;
}

outcome<void> fake_disks::copy(const model::system&, const model::volume& from,
                               const model::volume& to, const supervision& watch) {
  auto source = [&] {
    auto hold = std::lock_guard{guard_};
    ++readers_[from.vid];
    return committed(from.vid);
  }();
  auto bytes = size(from);
  auto first = *source;
  auto worked = do_work(disk_call::copy, to.vid, watch);
  auto hold = std::lock_guard{guard_};
  --readers_[from.vid];
  if (!worked)
    return worked;
  return admit(disk_call::copy, to.vid).and_then([&] { return at_rest(to.vid); }).map([&] {
    if (!to.save_on_stop)
      return;
    if (first != *source)
      harm_.push_back(fmt::format("'{}' is copied while it changes", from.vid));
    sizes_[to.vid] = bytes;
    commit(to.vid, std::make_shared<std::string>(first));
  });
}

/// Refuses to write to a volume that a guest writes to.
outcome<void> fake_disks::at_rest(const std::string& vid) const {
  return running_.contains(vid) ? fail(errc::storage, fmt::format("volume '{}' is in use", vid))
                                : outcome<void>{};
}

/// A smaller size cuts the volume, as with the real drivers.
outcome<void> fake_disks::resize(const model::system&, const model::volume& it, std::uint64_t bytes,
                                 const supervision&) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::resize, it.vid).map([&] {
    if (it.save_on_stop && bytes < size_of(it))
      harm_.push_back(fmt::format("'{}' is cut", it.vid));
    sizes_[it.vid] = bytes;
  });
}

outcome<void> fake_disks::clear(const model::system&, const model::volume& it, std::uint64_t bytes,
                                const supervision&) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::clear, it.vid).and_then([&] { return at_rest(it.vid); }).map([&] {
    sizes_[it.vid] = bytes;
    commit(it.vid, std::make_shared<std::string>());
  });
}

outcome<void> fake_disks::revert(const model::system&, const model::volume& it,
                                 const std::string& revision, const supervision&) {
  auto hold = std::lock_guard{guard_};
  auto known = revisions_of(it);
  if (std::ranges::find(known, revision, &model::revision::id) == known.end())
    return fail(errc::storage,
                fmt::format("volume '{}' has no revision {}", it.vid, model::quoted(revision)));
  return admit(disk_call::revert, it.vid).and_then([&] { return at_rest(it.vid); });
}

outcome<std::string> fake_disks::begin_import(const model::system&, const model::volume& it,
                                              std::uint64_t bytes,
                                              std::optional<std::uint64_t> announced) {
  auto hold = std::lock_guard{guard_};
  if (room_ && announced && *announced > *room_)
    return fail(errc::storage,
                fmt::format("the data needs {} bytes and {} are free", *announced, *room_));
  if (auto rests = at_rest(it.vid); !rests)
    return tl::unexpected{std::move(rests.error())};
  return admit(disk_call::import, it.vid).map([&] {
    if (!importing_.emplace(it.vid, arrival{bytes, {}}).second)
      harm_.push_back(fmt::format("'{}' is imported to twice", it.vid));
    return it.vid + "-import";
  });
}

outcome<void> fake_disks::end_import(const model::system&, const model::volume& it, bool keep,
                                     const supervision&) {
  auto hold = std::lock_guard{guard_};
  auto came = importing_.extract(it.vid); // the import is over, also when it fails
  return admit(disk_call::import, it.vid).and_then([&]() -> outcome<void> {
    if (keep && came.empty())
      return fail(errc::storage, fmt::format("nothing is being imported to '{}'", it.vid));
    if (keep) {
      sizes_[it.vid] = came.mapped().bytes;
      commit(it.vid, std::make_shared<std::string>(came.mapped().what));
    }
    return {};
  });
}

// -- contents of volumes --------------------------------------------------------------------------

fake_disks::block fake_disks::committed(const std::string& vid) {
  if (!committed_.contains(vid)) {
    written_[uuids_[vid]].insert("of old: " + vid);
    commit(vid, std::make_shared<std::string>("of old: " + vid));
  }
  return committed_[vid];
}

void fake_disks::commit(const std::string& vid, block what) {
  past_[uuids_[vid]].insert(*what);
  committed_[vid] = std::move(what);
}

void fake_disks::guest_writes(const std::string& vid, const std::string& what) {
  auto hold = std::lock_guard{guard_};
  if (auto i = worked_on_.find(vid); i != worked_on_.end()) {
    if (i->second == committed_[vid]) {
      past_[uuids_[vid]].insert(what);
      if (exported_.contains(vid))
        harm_.push_back(fmt::format("'{}' is exported while it changes", vid));
    }
    written_[uuids_[vid]].insert(what);
    *i->second = what;
  }
}

void fake_disks::import_writes(const std::string& vid, const std::string& what) {
  auto hold = std::lock_guard{guard_};
  if (auto i = importing_.find(vid); i != importing_.end()) {
    written_[uuids_[vid]].insert(what);
    i->second.what = what;
  }
}

std::string fake_disks::content(const std::string& vid) const {
  auto hold = std::lock_guard{guard_};
  auto i = committed_.find(vid);
  return i == committed_.end() ? std::string{} : *i->second;
}

std::uint64_t fake_disks::size(const model::volume& it) const {
  auto hold = std::lock_guard{guard_};
  return size_of(it);
}

std::set<std::string> fake_disks::past(const std::string& uuid) const {
  auto hold = std::lock_guard{guard_};
  auto i = past_.find(uuid);
  return i == past_.end() ? std::set<std::string>{} : i->second;
}

std::set<std::string> fake_disks::written(const std::string& uuid) const {
  auto hold = std::lock_guard{guard_};
  auto i = written_.find(uuid);
  return i == written_.end() ? std::set<std::string>{} : i->second;
}

std::vector<std::string> fake_disks::harm() const {
  auto hold = std::lock_guard{guard_};
  return harm_;
}

outcome<std::string> fake_disks::begin_export(const model::system&, const model::volume& it) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::read, it.vid).map([&] {
    exported_.insert(it.vid);
    return "/export/" + it.vid;
  });
}

outcome<void> fake_disks::end_export(const model::system&, const model::volume& it,
                                     const std::string&) {
  auto hold = std::lock_guard{guard_};
  if (auto i = exported_.find(it.vid); i != exported_.end())
    exported_.erase(i);
  return {};
}

std::multiset<std::string> fake_disks::exported() const {
  auto hold = std::lock_guard{guard_};
  return exported_;
}

outcome<model::callback_pools> fake_disks::set_up(const model::system&, const model::pool&) {
  return model::callback_pools{};
}

outcome<model::pool_facts> fake_disks::look(const model::system&, const model::pool&) {
  return model::pool_facts{};
}

outcome<std::vector<std::string>> fake_disks::list(const model::system&, const model::pool&) {
  return std::vector<std::string>{};
}

} // namespace qubes::drivers
