#include "actors/storage/pool_jobs.hpp"

#include "model/base/literal.hpp"
#include "model/change/plan_storage.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <concepts>
#include <type_traits>
#include <utility>

namespace qubes::actors {

using drivers::disks;
using drivers::supervision;
using model::errc;
using model::outcome;

namespace {

using disk_job::domain_target;
using disk_job::new_size;
using disk_job::pool_target;

// A job has one function `run`, which returns its result: about a volume it is given the volume in
// its turn, else what the job is about. One that is `undone` has one function `undo` as well.

// -- the life of a volume ------------------------------------------------------------------------

outcome<void> run(disks& d, const volume_turn& at, const disk_job::create_volume&,
                  const supervision&) {
  return d.create(*at.system, *at.owner, at.it);
}

/// Once the job was given up, the name may be another domain's, and so may the directory.
outcome<void> run(disks& d, const volume_turn& at, const disk_job::create_first_volume&,
                  const supervision& watch) {
  if (auto made = d.make_home(*at.system, *at.owner); !made)
    return made;
  auto created = d.create(*at.system, *at.owner, at.it);
  if (!created && !watch.stop.stop_requested())
    (void)d.remove_home(*at.owner); // the first reason is the one to tell
  return created;
}

outcome<void> run(disks& d, const volume_turn& at, const disk_job::remove_volume&,
                  const supervision&) {
  return d.remove(*at.system, *at.owner, at.it);
}

outcome<void> run(disks& d, const volume_turn& at, const disk_job::verify_volume&,
                  const supervision&) {
  return d.verify(*at.system, *at.owner, at.it);
}

outcome<std::string> run(disks& d, const volume_turn& at, const disk_job::start_volume&,
                         const supervision& watch) {
  return d.start(*at.system, *at.owner, at.it, watch);
}

outcome<void> run(disks& d, const volume_turn& at, const disk_job::stop_volume&,
                  const supervision& watch) {
  return d.stop(*at.system, *at.owner, at.it, watch);
}

void undo(disks& d, const volume_turn& at, const disk_job::create_volume&) {
  (void)d.remove(*at.system, *at.owner, at.it);
}

void undo(disks& d, const volume_turn& at, const disk_job::create_first_volume&) {
  (void)d.remove(*at.system, *at.owner, at.it);
}

void undo(disks& d, const volume_turn& at, const disk_job::start_volume&, const std::string&) {
  (void)d.stop(*at.system, *at.owner, at.it, {});
}

// -- the data of a volume ------------------------------------------------------------------------

outcome<std::uint64_t> size_of(disks& d, const volume_turn& at) {
  return d.look(*at.system, *at.owner, at.it).map([](const auto& found) { return found.size; });
}

new_size size_if_known(disks& d, const volume_turn& at) {
  if (!at.it.save_on_stop)
    return {};
  auto has = size_of(d, at);
  return has ? new_size{*has} : std::nullopt;
}

outcome<model::volume_facts> run(disks& d, const volume_turn& at, const disk_job::look_at_volume&,
                                 const supervision&) {
  return d.look(*at.system, *at.owner, at.it);
}

outcome<new_size> run(disks& d, const volume_turn& at, const disk_job::copy_volume& x,
                      const supervision& watch) {
  return d.copy(*at.system, x.source, at.it, watch).map([&] { return size_if_known(d, at); });
}

/// Data that is there must not be cut off.
outcome<std::uint64_t> run(disks& d, const volume_turn& at, const disk_job::resize_volume& x,
                           const supervision& watch) {
  auto has = size_of(d, at);
  if (!has)
    return has;
  auto lasts = at.it.save_on_stop || at.guest_at_work;
  if (auto keeps =
          lasts ? model::check_keeps_all(*at.owner, at.it, *has, x.bytes) : outcome<void>{};
      !keeps)
    return tl::unexpected{std::move(keeps.error())};
  return d.resize(*at.system, at.it, x.bytes, watch).map([&] {
    return lasts ? size_of(d, at).value_or(x.bytes) : x.bytes;
  });
}

/// What a writer puts into the volume meanwhile would undo what is done now.
outcome<void> end_import_first(disks& d, const volume_turn& at, const supervision& watch) {
  auto ended = at.import ? d.end_import(*at.system, at.it, false, watch) : outcome<void>{};
  at.import_ended = ended.has_value();
  return ended;
}

outcome<new_size> run(disks& d, const volume_turn& at, const disk_job::clear_volume&,
                      const supervision& watch) {
  return end_import_first(d, at, watch)
      .and_then([&] { return size_of(d, at); })
      .and_then([&](std::uint64_t has) { return d.clear(*at.system, at.it, has, watch); })
      .map([&] { return size_if_known(d, at); });
}

/// A request that is refused ends nothing.
outcome<void> check_revision(disks& d, const volume_turn& at, const std::string& wanted) {
  auto has = d.look(*at.system, *at.owner, at.it);
  if (!has)
    return tl::unexpected{std::move(has.error())};
  if (std::ranges::find(has->revisions, wanted, &model::revision::id) != has->revisions.end())
    return {};
  return model::fail(errc::storage,
                     fmt::format("volume '{}' of '{}' has no revision {}", at.it.name,
                                 at.owner->name.str(), model::quoted(wanted)));
}

outcome<new_size> run(disks& d, const volume_turn& at, const disk_job::revert_volume& x,
                      const supervision& watch) {
  return (at.import ? check_revision(d, at, x.revision) : outcome<void>{})
      .and_then([&] { return end_import_first(d, at, watch); })
      .and_then([&] { return d.revert(*at.system, at.it, x.revision, watch); })
      .map([&] { return size_if_known(d, at); });
}

outcome<disk_job::begin_import::result> run(disks& d, const volume_turn& at,
                                            const disk_job::begin_import& x, const supervision&) {
  auto bytes = x.announced ? outcome<std::uint64_t>{*x.announced} : size_of(d, at);
  if (!bytes)
    return tl::unexpected{std::move(bytes.error())};
  return d.begin_import(*at.system, at.it, *bytes, x.announced).map([&](std::string path) {
    return disk_job::begin_import::result{.path = std::move(path), .bytes = *bytes};
  });
}

outcome<disk_job::end_import::result> run(disks& d, const volume_turn& at,
                                          const disk_job::end_import& x, const supervision& watch) {
  using result = disk_job::end_import::result;
  auto ended = d.end_import(*at.system, at.it, x.keep, watch);
  if (!ended || !x.keep)
    return std::move(ended).map([] { return result{}; });
  auto wanted = at.import ? at.import->resized : 0;
  auto has = size_of(d, at);
  auto it = at.it;
  it.rw = true; // the volume was when the resize was acknowledged
  auto grown = has && *has < wanted ? d.resize(*at.system, it, wanted, watch) : outcome<void>{};
  return result{.size = size_if_known(d, at),
                .not_grown = grown ? std::string{} : grown.error().message()};
}

outcome<std::string> run(disks& d, const volume_turn& at, const disk_job::begin_export&,
                         const supervision&) {
  return d.begin_export(*at.system, at.it);
}

outcome<void> run(disks& d, const volume_turn& at, const disk_job::end_export& x,
                  const supervision&) {
  return d.end_export(*at.system, at.it, x.path);
}

void undo(disks& d, const volume_turn& at, const disk_job::begin_import&,
          const disk_job::begin_import::result&) {
  (void)d.end_import(*at.system, at.it, false, {});
}

void undo(disks& d, const volume_turn& at, const disk_job::begin_export&, const std::string& path) {
  (void)d.end_export(*at.system, at.it, path);
}

// -- pools ---------------------------------------------------------------------------------------

outcome<model::callback_pools> run(disks& d, const pool_target& at, const disk_job::set_up_pool&,
                                   const supervision&) {
  return d.set_up(*at.system, at.pool);
}

outcome<model::pool_facts> run(disks& d, const pool_target& at, const disk_job::look_at_pool&,
                               const supervision&) {
  return d.look(*at.system, at.pool);
}

outcome<std::vector<std::string>> run(disks& d, const pool_target& at, const disk_job::list_pool&,
                                      const supervision&) {
  return d.list(*at.system, at.pool);
}

// -- the directories of domains ------------------------------------------------------------------

outcome<void> run(disks& d, const domain_target& at, const disk_job::note_removal&,
                  const supervision&) {
  return d.note_removal(*at.domain);
}

outcome<void> run(disks& d, const domain_target& at, const disk_job::forget_removal&,
                  const supervision&) {
  return d.forget_removal(*at.domain);
}

outcome<disk_job::list_removals::result> run(disks& d, const disk_job::all_directories&,
                                             const disk_job::list_removals&, const supervision&) {
  return d.removals().map([](drivers::noted_removals found) {
    return disk_job::list_removals::result{.domains = std::move(found.domains),
                                           .trouble = std::move(found.trouble)};
  });
}

outcome<void> run(disks& d, const domain_target& at, const disk_job::make_directory&,
                  const supervision&) {
  return d.make_home(*at.system, *at.domain);
}

outcome<void> run(disks& d, const domain_target& at, const disk_job::remove_directory&,
                  const supervision&) {
  return d.remove_home(*at.domain);
}

// -- all of them ---------------------------------------------------------------------------------

template <class Job>
const auto& subject_of(const typed_disk_job<Job>& x, [[maybe_unused]] const volume_turn* at) {
  if constexpr (std::same_as<typename Job::about, disk_job::volume_target>)
    return *at;
  else
    return x.about;
}

} // namespace

outcome<pool_result> do_job(disks& with, const pool_job& x, const volume_turn* at,
                            const supervision& watch) {
  return std::visit(
      [&]<class Job>(const typed_disk_job<Job>& job) {
        auto done = run(with, subject_of(job, at), job.what, watch);
        static_assert(std::is_same_v<decltype(done), outcome<typename Job::result>>);
        return std::move(done).map([]<class... Found>(Found&&... found) {
          return pool_result::of<Job>(std::forward<Found>(found)...);
        });
      },
      x.what);
}

void undo_job(disks& with, const pool_job& x, const volume_turn* at, const pool_result& found) {
  std::visit(
      [&]<class Job>(const typed_disk_job<Job>& job) {
        if constexpr (Job::how.undone && std::is_void_v<typename Job::result>)
          undo(with, subject_of(job, at), job.what);
        else if constexpr (Job::how.undone)
          undo(with, subject_of(job, at), job.what, found.get<Job>());
      },
      x.what);
}

} // namespace qubes::actors
