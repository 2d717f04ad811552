#include "actors/storage.hpp"

#include "actors/driver/ask_driver.hpp"
#include "actors/storage_pool.hpp"
#include "actors/telling.hpp"
#include "model/pool_driver.hpp"
#include "model/volume.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <iterator>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

const auto homes = std::string{};

/// Work on all volumes of a domain at once; a creation begins with one of them alone.
struct round_row {
  disk_task what;
  std::optional<disk_task> first{};
  std::optional<disk_task> undo{};  ///< of those that went well, when one did not
  std::optional<disk_task> after{}; ///< always, or only to undo `first`
  bool kernels = false;             ///< whether it is anything to kernels
};

constexpr round_row rounds[]{
    {.what = disk_task::create,
     .first = disk_task::create_first,
     .undo = disk_task::remove,
     .after = disk_task::remove_home},
    {.what = disk_task::remove, .after = disk_task::remove_home}, // unless something is left
    {.what = disk_task::verify, .kernels = true},
    {.what = disk_task::start, .undo = disk_task::stop},
    {.what = disk_task::stop},
};

const round_row* round_of(disk_task x) {
  auto* row = std::ranges::find(rounds, x, &round_row::what);
  return row == std::end(rounds) ? nullptr : row;
}

/// What makes a name somebody's, and what makes it free.
bool ordered_by_name(const round_row& row) {
  return row.what == disk_task::create || row.what == disk_task::remove;
}

std::vector<const model::volume*> volumes_of(const disk_job& x, const round_row& row) {
  auto result = std::vector<const model::volume*>{};
  for (auto& it : x.domain->volumes) {
    auto* home = x.system->find_pool(it.pool);
    if (home && !row.kernels && model::is_fixed(*home))
      continue;
    if (home && row.what == disk_task::create && !model::is_made_at_creation(*home, it))
      continue;
    result.push_back(&it);
  }
  return result;
}

/// Its name may be in use again, in a host that was changed by hand.
bool has_namesake(const model::system& now, const model::domain& x) {
  auto* other = now.find(x.name.str());
  return other && other->uuid != x.uuid;
}

bool is_another_s(const model::system& now, const disk_job& x, const model::volume& it) {
  auto* owner = model::owner_of(now, it.pool, it.vid);
  return owner && owner->uuid != x.domain->uuid;
}

disk_job part_of(const disk_job& whole, disk_task what, const std::string& volume = {}) {
  auto result = whole;
  result.what = what;
  result.volume = volume;
  return result;
}

/// Whose work it is. The job's own copy of the domain may be newer than the snapshot.
outcome<std::string> pool_of(const disk_job& x) {
  if (x.pool)
    return x.pool->name;
  if (x.what == disk_task::note_removal || x.what == disk_task::forget_removal)
    return homes;
  if (auto* it = x.domain->find_volume(x.volume))
    return it->pool;
  return model::fail(errc::storage,
                     fmt::format("'{}' has no volume '{}'", x.domain->name.str(), x.volume));
}

} // namespace

/// The end comes when all pieces have ended.
struct storage_state::round {
  round(const round_row& row, disk_job job, disk_reply::sink to, bool lined_up = true)
      : row(row), job(std::move(job)), to(std::move(to)),
        lined_up(lined_up && ordered_by_name(row)) {}

  void note(const model::volume* it, disk_report result) {
    done.push_back(it);
    report.pairs.emplace_back(it->name, std::move(result.text));
  }

  const round_row& row;
  const disk_job job; ///< holds the volumes
  const disk_reply::sink to;
  const bool lined_up; ///< in the line of its name
  std::size_t left = 0;
  std::vector<const model::volume*> done;
  disk_report report;
  std::optional<model::error> why; ///< the first
  bool stays = false;              ///< something could not be removed, nor may its directory be
};

storage_actor::behavior_type storage(storage_actor::stateful_pointer<storage_state> self,
                                     world_ptr in, std::shared_ptr<drivers::disks> with,
                                     std::shared_ptr<drivers::executor> lanes) {
  return self->state.make(std::move(in), std::move(with), std::move(lanes));
}

storage_actor::behavior_type storage_state::make(world_ptr in, std::shared_ptr<drivers::disks> with,
                                                 std::shared_ptr<drivers::executor> lanes) {
  world_ = std::move(in);
  disks_ = std::move(with);
  lanes_ = std::move(lanes);
  self->set_down_handler([this](const caf::down_msg& x) { lost(x); });
  align(*world_->system.read());
  return {
      answer_probe,
      [this](const disk_job& what) { return run(what); },
      [this](const model::system_ptr& now) { align(*now); },
      [this](atom::start) { survey(); },
      [](const completion& run) { run(); },
  };
}

storage_state::~storage_state() {
  for (auto& [name, x] : pools_)
    caf::anon_send_exit(x, caf::exit_reason::user_shutdown);
}

/// What an earlier daemon had begun to remove goes first. Readers find the volumes known. What
/// cannot be looked at, whoever asks for it hears of.
void storage_state::survey() {
  surveying_ = true;
  hand_on(homes, {.what = disk_task::list_removals, .system = world_->system.read()},
          [this](auto found) {
            for (auto& x : found ? found->names : std::vector<std::string>{})
              spdlog::error("a removal may not be ended: {}", x);
            if (found)
              end_removals(found->domains);
            else
              spdlog::error("nobody knows what was being removed: {}", found.error().message());
            surveying_ = false;
            world_->removals.tell_all_known();
            for (auto& x : std::exchange(early_, {}))
              line_up(x);
          });
  auto now = world_->system.read();
  for (auto& x : now->domains)
    for (auto& it : x->volumes)
      hand_on(it.pool, {.what = disk_task::look, .system = now, .domain = x, .volume = it.name},
              [](const auto&) {});
}

/// A daemon was killed in the middle of these. Whose record is there was not removed.
void storage_state::end_removals(const std::vector<model::domain>& found) {
  auto now = world_->system.read();
  for (auto& it : found) {
    auto disks = disk_job{.what = disk_task::remove,
                          .system = now,
                          .domain = std::make_shared<const model::domain>(it)};
    if (now->find_uuid(it.uuid)) {
      hand_on(homes, part_of(disks, disk_task::forget_removal), [](const auto&) {});
      continue;
    }
    spdlog::warn("{}: its removal is ended, which was cut off", it.name.str());
    world_->removals.note(disks.domain);
    caf::anon_send(world_->driver, driver_job{about(it, job::undefine_guest{})});
    if (!now->find(it.name.str()))
      start_at_boot(self, world_, it.name.str(), false);
    line_up(std::make_shared<round>(*round_of(disk_task::remove), std::move(disks),
                                    [](const auto&) {}));
  }
}

// -- the pools ------------------------------------------------------------------------------------

/// One that is about to be added, or was removed a moment ago, has an actor as well.
const pool_actor& storage_state::pool(const std::string& called) {
  auto& result = pools_[called];
  if (!result)
    result = self->spawn<caf::monitored>(storage_pool, world_, called, disks_, lanes_);
  return result;
}

void storage_state::align(const model::system& now) {
  pool(homes);
  for (auto& x : now.pools)
    pool(x.name);
  for (auto i = pools_.begin(); i != pools_.end();) {
    if (i->first == homes || now.find_pool(i->first)) {
      ++i;
      continue;
    }
    self->send(i->second, atom::gone_v);
    deaths_.erase(i->first);
    i = pools_.erase(i);
  }
}

/// Whoever waited for it has an answer already; nobody else notices.
void storage_state::lost(const caf::down_msg& x) {
  auto i = std::ranges::find(pools_, x.source, [](auto& y) { return y.second.address(); });
  if (i == pools_.end())
    return;
  auto called = i->first;
  pools_.erase(i);
  spdlog::error("the actor of pool '{}' died ({}), {} times so far", called,
                caf::to_string(x.reason), ++deaths_[called]);
  if (called == homes || world_->system.read()->find_pool(called))
    pool(called);
}

void storage_state::hand_on(const std::string& called, const disk_job& what,
                            disk_reply::sink then) {
  self->send(pool(called), what,
             disk_reply{[me = storage_actor{self}, then = std::move(then)](auto result) {
               caf::anon_send(me, completion{[then, result = std::move(result)]() mutable {
                                then(std::move(result));
                              }});
             }});
}

// -- the work -------------------------------------------------------------------------------------

caf::result<disk_report> storage_state::run(const disk_job& what) {
  auto* row = round_of(what.what);
  if (row && !what.domain->is(model::qubes_vm)) // the others have no disks here
    return disk_report{};
  auto promise = self->make_response_promise<caf::typed_response_promise<disk_report>>();
  // Not one that answers when it is dropped: that may be in a thread, when this actor has ended.
  auto to = [promise](outcome<disk_report> result) mutable {
    if (result)
      promise.deliver(std::move(*result));
    else
      promise.deliver(to_caf(result.error()));
  };
  if (what.what == disk_task::note_removal)
    world_->removals.note(what.domain);
  else if (what.what == disk_task::forget_removal)
    world_->removals.end(what.domain->uuid);
  if (row && ordered_by_name(*row)) {
    auto x = std::make_shared<round>(*row, what, to);
    surveying_ ? early_.push_back(x) : line_up(x);
  } else if (row) {
    begin(std::make_shared<round>(*row, what, to));
  } else if (auto owner = pool_of(what)) {
    hand_on(*owner, what, to);
  } else {
    to(tl::unexpected{std::move(owner.error())});
  }
  return promise;
}

/// The creations and removals of one name follow one another, whoever asked for them.
void storage_state::line_up(const round_ptr& x) {
  auto& line = lives_[x->job.domain->name.str()];
  line.push_back(x);
  if (line.size() == 1)
    take_turn(x);
}

/// As long as anything of an earlier domain of that name is there, nothing of the next is made.
void storage_state::take_turn(const round_ptr& x) {
  auto former =
      x->row.what == disk_task::create ? world_->removals.former(*x->job.domain) : nullptr;
  if (!former || world_->system.read()->find_uuid(former->uuid))
    return begin(x);
  remove_first(former, x);
}

void storage_state::remove_first(const model::domain_ptr& former, const round_ptr& x) {
  auto job = part_of(x->job, disk_task::remove);
  job.domain = former;
  job.errand.reset();
  auto then = [this, x](const outcome<disk_report>& gone) {
    if (gone)
      return take_turn(x);
    x->why = {errc::storage,
              fmt::format("what a former '{}' left cannot be removed: {}",
                          x->job.domain->name.str(), gone.error().message()),
              "see to that first, or choose another name"};
    answer(x);
  };
  begin(std::make_shared<round>(*round_of(disk_task::remove), std::move(job), std::move(then),
                                false));
}

void storage_state::answer(const round_ptr& x) {
  if (x->why)
    x->to(tl::unexpected{*x->why});
  else
    x->to(std::move(x->report));
  auto line = lives_.find(x->job.domain->name.str());
  if (!x->lined_up || line == lives_.end())
    return;
  line->second.pop_front();
  if (line->second.empty())
    lives_.erase(line);
  else
    take_turn(round_ptr{line->second.front()});
}

void storage_state::begin(const round_ptr& x) {
  auto todo = volumes_of(x->job, x->row);
  if (x->row.what == disk_task::remove)
    std::erase_if(todo,
                  [&](auto* it) { return is_another_s(*world_->system.read(), x->job, *it); });
  if (!x->row.first)
    return do_each(x, todo);
  auto what = todo.empty() ? disk_task::make_home : *x->row.first;
  auto* it = todo.empty() ? nullptr : todo.front();
  if (it)
    todo.erase(todo.begin());
  hand_on(it ? it->pool : homes, part_of(x->job, what, it ? it->name : std::string{}),
          [this, x, it, todo](auto result) {
            if (!result) {
              x->why = std::move(result.error());
              return answer(x);
            }
            if (it)
              x->note(it, std::move(*result));
            do_each(x, todo);
          });
}

void storage_state::do_each(const round_ptr& x, const std::vector<const model::volume*>& todo) {
  x->left = todo.size();
  if (todo.empty())
    return done_with_each(x);
  for (auto* it : todo)
    hand_on(it->pool, part_of(x->job, x->row.what, it->name), [this, x, it](auto result) {
      if (result) {
        x->note(it, std::move(*result));
      } else if (!x->why) {
        x->why = std::move(result.error());
      }
      if (--x->left == 0)
        done_with_each(x);
    });
}

/// What is undone is not broken off any more.
void storage_state::done_with_each(const round_ptr& x) {
  if (!x->why || !x->row.undo || x->done.empty())
    return finish(x);
  x->left = x->done.size();
  for (auto* it : x->done) {
    auto undo = part_of(x->job, *x->row.undo, it->name);
    undo.errand.reset();
    hand_on(it->pool, undo, [this, x](const auto& undone) { // the first reason is the one to tell
      x->stays = x->stays || !undone;
      if (--x->left == 0)
        finish(x);
    });
  }
}

/// A directory says what there is to remove, and its name that it is not free: it goes last.
void storage_state::finish(const round_ptr& x) {
  auto removes = x->row.what == disk_task::remove;
  x->stays = x->stays || (removes && x->why);
  if (ordered_by_name(x->row) && x->stays)
    keep_for_later(x);
  if (!x->row.after || (x->row.first && !x->why) || x->stays)
    return answer(x);
  auto last = has_namesake(*world_->system.read(), *x->job.domain) ? disk_task::forget_removal
                                                                   : *x->row.after;
  hand_on(homes, part_of(x->job, last), [this, x](auto done) {
    if (!done && !x->why)
      x->why = std::move(done.error());
    if (done)
      world_->removals.end(x->job.domain->uuid);
    else
      keep_for_later(x);
    answer(x);
  });
}

/// It is tried again before its name is used again, or by the next daemon.
void storage_state::keep_for_later(const round_ptr& x) {
  auto& who = x->job.domain;
  spdlog::error("{}: its disks are left behind: {}", who->name.str(),
                x->why ? x->why->message() : "they cannot be removed");
  world_->removals.note(who);
}

} // namespace qubes::actors
