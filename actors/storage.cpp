#include "actors/storage.hpp"

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

outcome<disk_report> create(disks& with, const disk_job& x) {
  return nothing(with.create(*x.system, *x.domain));
}

outcome<disk_report> remove(disks& with, const disk_job& x) {
  return nothing(with.remove(*x.system, *x.domain));
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
  return on_volume(x, [&](auto& it) { return with.copy(*x.system, *x.source, it); });
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

struct task_row {
  disk_task what;
  outcome<disk_report> (*run)(disks&, const disk_job&);
};

// clang-format off
constexpr task_row rows[]{
  {disk_task::create,       create},
  {disk_task::remove,       remove},
  {disk_task::look,         look},
  {disk_task::copy,         copy},
  {disk_task::resize,       resize},
  {disk_task::clear,        clear},
  {disk_task::revert,       revert},
  {disk_task::begin_import, begin_import},
  {disk_task::end_import,   end_import},
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

} // namespace

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

caf::result<disk_report> storage_state::run(const disk_job& what) {
  auto to = self->make_response_promise<caf::typed_response_promise<disk_report>>();
  lanes_->post(drivers::lane::storage, what.domain ? what.domain->name.str() : std::string{},
               [me = storage_actor{self}, with = disks_, what, to] {
                 caf::anon_send(
                     me, completion{[to, result = row_of(what.what).run(*with, what)]() mutable {
                       if (result)
                         to.deliver(std::move(*result));
                       else
                         to.deliver(to_caf(result.error()));
                     }});
               });
  return to;
}

} // namespace qubes::actors
