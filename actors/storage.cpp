#include "actors/storage.hpp"

#include "model/pool_driver.hpp"

#include <fmt/format.h>

#include <iterator>

namespace qubes::actors {

using drivers::disks;
using model::errc;
using model::outcome;

namespace {

outcome<disk_report> nothing(const outcome<void>& x) {
  if (!x)
    return tl::unexpected{x.error()};
  return disk_report{};
}

/// The volume as the snapshot has it; the job's own copy of the domain may be newer than that.
outcome<const model::volume*> volume_of(const disk_job& x) {
  if (auto* it = x.domain->find_volume(x.volume))
    return it;
  return model::fail(errc::storage,
                     fmt::format("'{}' has no volume '{}'", x.domain->name.str(), x.volume));
}

template <class Work>
outcome<disk_report> on_volume(const disk_job& x, Work work) {
  auto it = volume_of(x);
  if (!it)
    return tl::unexpected{std::move(it.error())};
  return nothing(work(**it));
}

outcome<disk_report> look(disks& with, const disk_job& x) {
  auto it = volume_of(x);
  if (!it)
    return tl::unexpected{std::move(it.error())};
  auto facts = with.look(*x.system, *x.domain, **it);
  if (!facts)
    return tl::unexpected{std::move(facts.error())};
  return disk_report{.volume = std::move(*facts)};
}

outcome<disk_report> copy(disks& with, const disk_job& x) {
  return on_volume(x, [&](auto& it) { return with.copy(*x.system, *x.source, it, x.abort); });
}

outcome<disk_report> resize(disks& with, const disk_job& x) {
  return on_volume(x, [&](auto& it) { return with.resize(*x.system, it, x.bytes); });
}

outcome<disk_report> clear(disks& with, const disk_job& x) {
  return on_volume(x, [&](auto& it) { return with.clear(*x.system, it, x.bytes); });
}

outcome<disk_report> revert(disks& with, const disk_job& x) {
  return on_volume(x, [&](auto& it) { return with.revert(*x.system, it, x.text); });
}

outcome<disk_report> begin_import(disks& with, const disk_job& x) {
  auto it = volume_of(x);
  if (!it)
    return tl::unexpected{std::move(it.error())};
  auto path = with.begin_import(*x.system, **it, x.bytes);
  if (!path)
    return tl::unexpected{std::move(path.error())};
  return disk_report{.text = std::move(*path)};
}

outcome<disk_report> end_import(disks& with, const disk_job& x) {
  return on_volume(x, [&](auto& it) { return with.end_import(*x.system, it, x.flag); });
}

outcome<disk_report> begin_export(disks& with, const disk_job& x) {
  auto it = volume_of(x);
  if (!it)
    return tl::unexpected{std::move(it.error())};
  auto path = with.begin_export(*x.system, **it);
  if (!path)
    return tl::unexpected{std::move(path.error())};
  return disk_report{.text = std::move(*path)};
}

outcome<disk_report> end_export(disks& with, const disk_job& x) {
  return on_volume(x, [&](auto& it) { return with.end_export(*x.system, it, x.text); });
}

outcome<disk_report> set_up_pool(disks& with, const disk_job& x) {
  return nothing(with.set_up(*x.system, *x.pool));
}

outcome<disk_report> look_at_pool(disks& with, const disk_job& x) {
  auto facts = with.look(*x.system, *x.pool);
  if (!facts)
    return tl::unexpected{std::move(facts.error())};
  return disk_report{.pool = std::move(*facts)};
}

outcome<disk_report> list_pool(disks& with, const disk_job& x) {
  auto names = with.list(*x.system, *x.pool);
  if (!names)
    return tl::unexpected{std::move(names.error())};
  return disk_report{.names = std::move(*names)};
}

// -- all volumes of a domain ----------------------------------------------------------------------

/// A step on one volume; some have something to say.
using volume_step = outcome<std::string> (*)(disks&, const disk_job&, const model::volume&);
using home_step = outcome<void> (*)(disks&, const disk_job&);

outcome<std::string> silent(outcome<void> x) {
  if (!x)
    return tl::unexpected{std::move(x.error())};
  return std::string{};
}

outcome<void> make_home(disks& with, const disk_job& x) {
  return with.make_home(*x.system, *x.domain);
}

outcome<void> remove_home(disks& with, const disk_job& x) {
  return with.remove_home(*x.domain);
}

outcome<std::string> create(disks& with, const disk_job& x, const model::volume& it) {
  return silent(with.create(*x.system, *x.domain, it));
}

outcome<std::string> remove(disks& with, const disk_job& x, const model::volume& it) {
  return silent(with.remove(*x.system, *x.domain, it));
}

outcome<std::string> verify(disks& with, const disk_job& x, const model::volume& it) {
  return silent(with.verify(*x.system, *x.domain, it));
}

outcome<std::string> start(disks& with, const disk_job& x, const model::volume& it) {
  return with.start(*x.system, *x.domain, it, x.abort);
}

outcome<std::string> stop(disks& with, const disk_job& x, const model::volume& it) {
  return silent(with.stop(*x.system, *x.domain, it));
}

// -- the tables -----------------------------------------------------------------------------------

/// Either one call, or `each` for all volumes at once between two steps on the directory.
struct task_row {
  disk_task what;
  outcome<disk_report> (*run)(disks&, const disk_job&) = nullptr;
  home_step before = nullptr;
  volume_step each = nullptr;
  volume_step undo = nullptr; ///< of those that went well, when one did not
  home_step after = nullptr;  ///< always, or only to undo `before`
  bool kernels = false;       ///< whether `each` is anything to kernels
};

// clang-format off
constexpr task_row rows[]{
  {.what = disk_task::create, .before = make_home, .each = create, .undo = remove, .after = remove_home},
  {.what = disk_task::remove, .each = remove, .after = remove_home},
  {.what = disk_task::verify, .each = verify, .kernels = true},
  {.what = disk_task::start,  .each = start, .undo = stop},
  {.what = disk_task::stop,   .each = stop},
  {disk_task::look,         look},
  {disk_task::copy,         copy},
  {disk_task::resize,       resize},
  {disk_task::clear,        clear},
  {disk_task::revert,       revert},
  {disk_task::begin_import, begin_import},
  {disk_task::end_import,   end_import},
  {disk_task::begin_export, begin_export},
  {disk_task::end_export,   end_export},
  {disk_task::set_up_pool,  set_up_pool},
  {disk_task::look_at_pool, look_at_pool},
  {disk_task::list_pool,    list_pool},
};
// clang-format on

constexpr const task_row& row_of(disk_task x) {
  return rows[static_cast<std::size_t>(x)];
}

static_assert([] {
  for (auto i = std::size_t{0}; i < std::size(rows); ++i)
    if (rows[i].what != static_cast<disk_task>(i))
      return false;
  return true;
}());

std::string key_of(const model::volume& x) {
  return x.pool + ':' + x.vid;
}

/// What this job is about, so that work on it keeps its order.
std::string key_of(const disk_job& x) {
  auto* it = x.domain ? x.domain->find_volume(x.volume) : nullptr;
  return it ? key_of(*it) : std::string{};
}

std::vector<const model::volume*> volumes_of(const disk_job& x, const task_row& row) {
  auto result = std::vector<const model::volume*>{};
  for (auto& it : x.domain->volumes) {
    auto* home = x.system->find_pool(it.pool);
    if (row.kernels || !home || !model::is_fixed(*home))
      result.push_back(&it);
  }
  return result;
}

} // namespace

/// Work on all volumes of a domain: each on its own, the end when all have ended.
struct storage_state::round {
  round(const task_row& row, disk_job job, caf::typed_response_promise<disk_report> to)
      : row(row), job(std::move(job)), to(std::move(to)) {}

  const task_row& row;
  const disk_job job; ///< holds the volumes
  caf::typed_response_promise<disk_report> to;
  std::size_t left = 0;
  std::vector<const model::volume*> done;
  disk_report report;
  std::optional<model::error> why; ///< the first
};

storage_actor::behavior_type storage(storage_actor::stateful_pointer<storage_state> self,
                                     std::shared_ptr<drivers::disks> with,
                                     std::shared_ptr<drivers::executor> lanes) {
  return self->state.make(std::move(with), std::move(lanes));
}

storage_actor::behavior_type storage_state::make(std::shared_ptr<drivers::disks> with,
                                                 std::shared_ptr<drivers::executor> lanes) {
  disks_ = std::move(with);
  lanes_ = std::move(lanes);
  return {
      [this](const disk_job& what) { return run(what); },
      [](const completion& run) { run(); },
  };
}

template <class Work, class Then>
void storage_state::post(std::string key, Work work, Then then) {
  lanes_->post(drivers::lane::storage, std::move(key),
               [me = storage_actor{self}, with = disks_, work, then] {
                 caf::anon_send(me, completion{[then, result = work(*with)]() mutable {
                                  then(std::move(result));
                                }});
               });
}

caf::result<disk_report> storage_state::run(const disk_job& what) {
  auto& row = row_of(what.what);
  if (row.each && !what.domain->is(model::qubes_vm)) // the others have no disks here
    return disk_report{};
  auto to = self->make_response_promise<caf::typed_response_promise<disk_report>>();
  if (row.each) {
    begin(std::make_shared<round>(row, what, to));
    return to;
  }
  post(
      key_of(what), [what, &row](disks& with) { return row.run(with, what); },
      [to](outcome<disk_report> result) mutable {
        if (result)
          to.deliver(std::move(*result));
        else
          to.deliver(to_caf(result.error()));
      });
  return to;
}

void storage_state::begin(const round_ptr& x) {
  if (!x->row.before)
    return do_each(x);
  post(
      {}, [x](disks& with) { return x->row.before(with, x->job); },
      [this, x](outcome<void> made) {
        if (made)
          return do_each(x);
        x->to.deliver(to_caf(made.error()));
      });
}

void storage_state::do_each(const round_ptr& x) {
  auto todo = volumes_of(x->job, x->row);
  x->left = todo.size();
  if (todo.empty())
    return done_with_each(x);
  for (auto* it : todo)
    post(
        key_of(*it), [x, it](disks& with) { return x->row.each(with, x->job, *it); },
        [this, x, it](outcome<std::string> result) {
          if (result) {
            x->done.push_back(it);
            x->report.pairs.emplace_back(it->name, std::move(*result));
          } else if (!x->why) {
            x->why = std::move(result.error());
          }
          if (--x->left == 0)
            done_with_each(x);
        });
}

void storage_state::done_with_each(const round_ptr& x) {
  if (!x->why || !x->row.undo || x->done.empty())
    return finish(x);
  x->left = x->done.size();
  for (auto* it : x->done)
    post(
        key_of(*it), [x, it](disks& with) { return x->row.undo(with, x->job, *it); },
        [this, x](const outcome<std::string>&) { // the first reason is the one to tell
          if (--x->left == 0)
            finish(x);
        });
}

void storage_state::finish(const round_ptr& x) {
  auto answer = [x] {
    if (x->why)
      x->to.deliver(to_caf(*x->why));
    else
      x->to.deliver(std::move(x->report));
  };
  if (!x->row.after || (x->row.before && !x->why))
    return answer();
  post(
      {}, [x](disks& with) { return x->row.after(with, x->job); },
      [x, answer](outcome<void> done) {
        if (!done && !x->why)
          x->why = std::move(done.error());
        answer();
      });
}

} // namespace qubes::actors
