#include "drivers/fake_disks.hpp"

#include <fmt/format.h>

namespace qubes::drivers {

using model::errc;
using model::fail;

void fake_disks::set_script(script fate) {
  auto hold = std::lock_guard{guard_};
  fate_ = std::move(fate);
}

void fake_disks::set_labour(labour x) {
  auto hold = std::lock_guard{guard_};
  labour_ = std::move(x);
}

void fake_disks::set_room(std::optional<std::uint64_t> x) {
  auto hold = std::lock_guard{guard_};
  room_ = x;
}

std::set<std::string> fake_disks::importing() const {
  auto hold = std::lock_guard{guard_};
  return importing_;
}

/// Not under the guard: others go on meanwhile.
outcome<void> fake_disks::toil(disk_call which, const std::string& vid,
                               const supervision& watch) const {
  auto work = [&] {
    auto hold = std::lock_guard{guard_};
    return labour_;
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
    if (tell_)
      tell_(fmt::format("{}/{}", row(x.type).directory, x.name.str()));
    return {};
  });
}

outcome<void> fake_disks::remove_home(const model::domain& x) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::remove, x.name.str()).map([&] { made_.erase(x.name.str()); });
}

outcome<void> fake_disks::create(const model::system&, const model::domain&,
                                 const model::volume& it) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::create, it.vid);
}

outcome<void> fake_disks::remove(const model::system&, const model::domain&,
                                 const model::volume& it) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::remove, it.vid).map([&] { running_.erase(it.vid); });
}

outcome<void> fake_disks::verify(const model::system&, const model::domain&,
                                 const model::volume& it) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::verify, it.vid);
}

outcome<std::string> fake_disks::start(const model::system&, const model::domain&,
                                       const model::volume& it, const supervision& watch) {
  if (auto done = toil(disk_call::start, it.vid, watch); !done)
    return tl::unexpected{std::move(done.error())};
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::start, it.vid).map([&] {
    running_.insert(it.vid);
    if (it.snap_on_start)
      origins_[it.vid] = {it.source, commits_[it.source]};
    return "/dev/" + it.vid;
  });
}

outcome<void> fake_disks::stop(const model::system&, const model::domain&, const model::volume& it,
                               const supervision& watch) {
  if (auto done = toil(disk_call::stop, it.vid, watch); !done)
    return done;
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::stop, it.vid).map([&] {
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

outcome<model::volume_facts> fake_disks::look(const model::system&, const model::domain&,
                                              const model::volume& it) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::look, it.vid).map([&] {
    auto origin = origins_.find(it.vid);
    return model::volume_facts{.size = it.size,
                               .usage = 0,
                               .path = it.vid,
                               .outdated =
                                   origin != origins_.end()
                                   && origin->second.second != commits_[origin->second.first],
                               .revisions = {}};
  });
}

outcome<void> fake_disks::copy(const model::system&, const model::volume&, const model::volume& to,
                               const supervision& watch) {
  if (auto done = toil(disk_call::copy, to.vid, watch); !done)
    return done;
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::copy, to.vid).and_then([&] { return at_rest(to.vid); });
}

/// What a guest writes to is not written to from elsewhere.
outcome<void> fake_disks::at_rest(const std::string& vid) const {
  return running_.contains(vid) ? fail(errc::storage, fmt::format("volume '{}' is in use", vid))
                                : outcome<void>{};
}

outcome<void> fake_disks::resize(const model::system&, const model::volume& it, std::uint64_t,
                                 const supervision&) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::resize, it.vid);
}

outcome<void> fake_disks::clear(const model::system&, const model::volume& it, std::uint64_t,
                                const supervision&) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::clear, it.vid).and_then([&] { return at_rest(it.vid); });
}

outcome<void> fake_disks::revert(const model::system&, const model::volume& it, const std::string&,
                                 const supervision&) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::revert, it.vid).and_then([&] { return at_rest(it.vid); });
}

outcome<std::string> fake_disks::begin_import(const model::system&, const model::volume& it,
                                              std::uint64_t, std::uint64_t announced) {
  auto hold = std::lock_guard{guard_};
  if (room_ && announced > *room_)
    return fail(errc::storage,
                fmt::format("the data needs {} bytes and {} are free", announced, *room_));
  if (auto rests = at_rest(it.vid); !rests)
    return tl::unexpected{std::move(rests.error())};
  return admit(disk_call::import, it.vid).map([&] {
    importing_.insert(it.vid);
    return it.vid + "-import";
  });
}

outcome<void> fake_disks::end_import(const model::system&, const model::volume& it, bool,
                                     const supervision&) {
  auto hold = std::lock_guard{guard_};
  return admit(disk_call::import, it.vid).map([&] { importing_.erase(it.vid); });
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
