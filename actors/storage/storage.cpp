#include "actors/storage/storage.hpp"

#include "actors/common/ask_driver.hpp"
#include "actors/common/guest_notification.hpp"
#include "actors/storage/storage_pool.hpp"
#include "model/base/overloaded.hpp"
#include "model/storage/pool_driver.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <type_traits>
#include <utility>
#include <variant>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

const auto homes = std::string{};

using disk_job::all_directories;
using disk_job::domain_manner;
using disk_job::domain_target;
using disk_job::name_use;
using disk_job::pool_target;
using disk_job::volume_target;

// -- work on all volumes of a domain, a job of a pool for each ------------------------------------

using step = std::function<pool_job(volume_target)>;

struct domain_steps {
  step each;
  step first{}; ///< alone, before each of the others
  step undo{};  ///< of those that went well, when one did not
};

template <class Job>
step of_volume(Job what) {
  return [what = std::move(what)](volume_target at) {
    return pool_job{typed_disk_job<Job>{std::move(at), what}};
  };
}

domain_steps steps_of(const disk_job::create_disks&) {
  return {.each = of_volume(disk_job::create_volume{}),
          .first = of_volume(disk_job::create_first_volume{}),
          .undo = of_volume(disk_job::remove_volume{})};
}

domain_steps steps_of(const disk_job::remove_disks&) {
  return {.each = of_volume(disk_job::remove_volume{})};
}

domain_steps steps_of(const disk_job::verify_disks&) {
  return {.each = of_volume(disk_job::verify_volume{})};
}

domain_steps steps_of(const disk_job::start_disks& x) {
  return {.each = of_volume(disk_job::start_volume{.cancellation = x.cancellation}),
          .undo = of_volume(disk_job::stop_volume{})};
}

domain_steps steps_of(const disk_job::stop_disks&) {
  return {.each = of_volume(disk_job::stop_volume{})};
}

struct volume_done {
  const model::volume* it;
  pool_result found;
};

/// What the pieces of a work found; only for work that has a result.
template <class Job>
typename Job::result found_by(const std::vector<volume_done>& done);

template <>
disk_job::start_disks::result
found_by<disk_job::start_disks>(const std::vector<volume_done>& done) {
  auto result = disk_job::start_disks::result{};
  for (auto& x : done)
    result.emplace(x.it->name, x.found.get<disk_job::start_volume>());
  return result;
}

std::vector<const model::volume*> volumes_of(const domain_target& x, const domain_manner& how) {
  auto result = std::vector<const model::volume*>{};
  for (auto& it : x.domain->volumes) {
    auto* home = x.system->find_pool(it.pool);
    if (home && !how.kernels && model::is_fixed(*home))
      continue;
    if (home && how.name == name_use::taken && !model::is_made_at_creation(*home, it))
      continue;
    result.push_back(&it);
  }
  return result;
}

// -- jobs and their pools ------------------------------------------------------------------------

/// What the domain has cannot be told from what is left of its record.
bool has_record_set_aside(const model::system& now, const model::domain& x) {
  return std::ranges::any_of(now.quarantine, [&](auto& y) {
    return y.where == model::section::domains && (y.name == x.name.str() || y.holds.uuid == x.uuid);
  });
}

outcome<std::string> pool_of(const pool_target& x) {
  return x.pool.name;
}

outcome<std::string> pool_of(const domain_target&) {
  return homes;
}

/// The job's own copy of the domain may be newer than the snapshot.
outcome<std::string> pool_of(const volume_target& x) {
  if (auto* it = x.domain->find_volume(x.volume))
    return it->pool;
  return model::fail(errc::storage,
                     fmt::format("'{}' has no volume '{}'", x.domain->name.str(), x.volume));
}

/// A job's result among those of all that storage is asked for.
template <class Job>
constexpr auto as_answer = []<class... Found>(Found&&... found) {
  return storage_result::of<Job>(std::forward<Found>(found)...);
};

} // namespace

/// The end comes when all pieces have ended.
struct storage_state::domain_work {
  using pieces_done = std::vector<volume_done>;
  using sink = std::function<void(outcome<pieces_done>)>;

  template <disk_job::is_domain_job Job>
  domain_work(const typed_disk_job<Job>& x, sink to, bool lined_up = true)
      : of(x.about), how(Job::how), steps(steps_of(x.what)), to(std::move(to)),
        lined_up(lined_up && with_directory()) {}

  /// The directory is made first, or removed last.
  bool with_directory() const { return how.name != name_use::none; }

  volume_target at(const model::volume* it) const { return {of.system, of.domain, it->name}; }

  const domain_target of; ///< holds the volumes
  const domain_manner how;
  const domain_steps steps;
  const sink to;
  const bool lined_up; ///< in the line of its name
  std::size_t left = 0;
  pieces_done done;
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
  auto now = world_->system.read();
  align(*now);
  return {
      answer_probe,
      [this](const storage_job& what) { return run(what); },
      [this](const model::system_ptr& now) { align(*now); },
      [this](domains_known) { survey(); },
      [this](const domain_ended& x) {
        if (auto it = world_->removals.find(x.uuid))
          end_removals({*it});
      },
      [](const completion& run) { run(); },
  };
}

storage_state::~storage_state() {
  for (auto& [name, x] : pools_)
    caf::anon_send_exit(x, caf::exit_reason::user_shutdown);
}

/// Removals that an earlier daemon began go first. Readers find the volumes known. A volume that
/// cannot be looked at is told to the requests that ask for it.
void storage_state::survey() {
  hand_on(homes, typed_disk_job{all_directories{}, disk_job::list_removals{}},
          [this](const outcome<disk_job::list_removals::result>& found) {
            for (auto& x : found ? found->trouble : std::vector<std::string>{})
              spdlog::error("a removal may not be ended: {}", x);
            if (found)
              end_removals(found->domains);
            else
              spdlog::error("nobody knows what was being removed: {}", found.error().message());
            surveying_ = false;
            world_->removals.tell_all_known();
            for (auto& go_on : std::exchange(early_, {}))
              go_on();
          });
  auto now = world_->system.read();
  for (auto& x : now->domains)
    for (auto& it : x->volumes)
      hand_on(it.pool, typed_disk_job{volume_target{now, x, it.name}, disk_job::look_at_volume{}},
              [](const auto&) {});
}

/// A daemon, or an actor, died in the middle of these. A domain whose record is there was not
/// removed.
void storage_state::end_removals(const std::vector<model::domain>& found) {
  auto now = world_->system.read();
  for (auto& it : found) {
    auto disks = domain_target{now, std::make_shared<const model::domain>(it)};
    if (now->find_uuid(it.uuid)) {
      hand_on(homes, typed_disk_job{disks, disk_job::forget_removal{}}, [](const auto&) {});
      continue;
    }
    if (has_record_set_aside(*now, it)) {
      spdlog::error("{}: its removal is not ended: its record in qubes.xml is set aside",
                    it.name.str());
      world_->removals.note(disks.domain);
      continue;
    }
    spdlog::warn("{}: its removal is ended, which was cut off", it.name.str());
    world_->removals.note(disks.domain);
    caf::anon_send(world_->driver, driver_job{about(it, job::undefine_guest{})});
    if (!now->find(it.name.str()))
      start_at_boot(self, world_, it.name.str(), false);
    line_up(removal(
        std::move(disks), [](const auto&) {}, true));
  }
}

// -- the pools ------------------------------------------------------------------------------------

/// A pool that is about to be added, or was removed a moment ago, has an actor as well.
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
    self->send(i->second, pool_removed{});
    deaths_.erase(i->first);
    i = pools_.erase(i);
  }
}

/// Requests that waited for the dead actor have an answer already; others do not notice.
void storage_state::lost(const caf::down_msg& x) {
  auto i = std::ranges::find(pools_, x.source, [](auto& y) { return y.second.address(); });
  if (i == pools_.end())
    return;
  auto called = i->first;
  pools_.erase(i);
  spdlog::error("the actor of pool '{}' died ({}), {} times so far", called,
                caf::to_string(x.reason), ++deaths_[called]);
  if (auto now = world_->system.read(); called == homes || now->find_pool(called))
    pool(called);
}

void storage_state::hand_on(const std::string& called, const pool_job& what,
                            pool_reply::sink then) {
  self->send(pool(called), what,
             pool_reply{[me = storage_actor{self}, then = std::move(then)](auto result) {
               caf::anon_send(me, completion{[then, result = std::move(result)]() mutable {
                                then(std::move(result));
                              }});
             }});
}

template <class Job>
void storage_state::hand_on(const std::string& called, const typed_disk_job<Job>& x,
                            std::function<void(outcome<typename Job::result>)> then) {
  hand_on(called, pool_job{x}, [then = std::move(then)](outcome<pool_result> result) {
    then(std::move(result).map([](pool_result&& found) { return found.take<Job>(); }));
  });
}

// -- the work -------------------------------------------------------------------------------------

caf::result<storage_result> storage_state::run(const storage_job& what) {
  auto promise = self->make_response_promise<caf::typed_response_promise<storage_result>>();
  // The promise is no reply that answers when it is dropped: that may be in a thread, when this
  // actor has ended.
  auto to = [promise](outcome<storage_result> result) mutable {
    if (result)
      promise.deliver(std::move(*result));
    else
      promise.deliver(to_caf(result.error()));
  };
  note_removal(what);
  std::visit([&](const auto& x) { take(x, to); }, what.what);
  return promise;
}

/// A removal is known before anything else is, and until it is undone or done.
void storage_state::note_removal(const storage_job& what) {
  std::visit(model::overloaded{[&](const typed_disk_job<disk_job::note_removal>& x) {
                                 world_->removals.note(x.about.domain);
                               },
                               [&](const typed_disk_job<disk_job::forget_removal>& x) {
                                 world_->removals.end(x.about.domain->uuid);
                                 forget_unborn(*x.about.domain);
                               },
                               [](const auto&) {}},
             what.what);
}

template <disk_job::is_domain_job Job>
void storage_state::take(const typed_disk_job<Job>& x, const sink& to) {
  if (!x.about.domain->is(model::qubes_vm)) // the others have no disks here
    return to(storage_result::of<Job>());
  auto all = std::make_shared<domain_work>(x, [to](outcome<domain_work::pieces_done> done) {
    to(std::move(done).map([]([[maybe_unused]] const domain_work::pieces_done& pieces) {
      if constexpr (std::is_void_v<typename Job::result>)
        return storage_result::of<Job>();
      else
        return storage_result::of<Job>(found_by<Job>(pieces));
    }));
  });
  if (!all->lined_up)
    begin(all);
  else if (surveying_)
    early_.push_back([this, all] { line_up(all); });
  else
    line_up(all);
}

template <class Job>
constexpr bool writes_notes =
    std::is_same_v<Job, disk_job::note_removal> || std::is_same_v<Job, disk_job::forget_removal>;

/// A note that is written while those of an earlier daemon are read would be taken for one of
/// them, or for a draft that a crash left.
template <disk_job::is_piece Job>
void storage_state::take(const typed_disk_job<Job>& x, const sink& to) {
  if (surveying_ && writes_notes<Job>)
    return early_.push_back([this, x, to] { take(x, to); });
  auto owner = pool_of(x.about);
  if (!owner)
    return to(tl::unexpected{std::move(owner.error())});
  hand_on(*owner, x, [to](outcome<typename Job::result> result) {
    to(std::move(result).map(as_answer<Job>));
  });
}

storage_state::domain_work_ptr
storage_state::removal(domain_target of, std::function<void(const outcome<void>&)> then,
                       bool lined_up) {
  return std::make_shared<domain_work>(
      typed_disk_job{std::move(of), disk_job::remove_disks{}},
      [then = std::move(then)](const outcome<domain_work::pieces_done>& gone) {
        then(gone.map([](const auto&) {}));
      },
      lined_up);
}

/// The creations and removals of one name follow one another, whichever request they are of.
void storage_state::line_up(const domain_work_ptr& x) {
  auto& line = lives_[x->of.domain->name.str()];
  line.push_back(x);
  if (line.size() == 1)
    take_turn(x);
}

/// The domain's name may be in use again.
model::domain_ptr storage_state::namesake(const model::domain& x) const {
  auto unborn = unborn_.find(x.name.str());
  auto now = world_->system.read();
  auto other = unborn != unborn_.end() ? unborn->second : now->share(x.name.str());
  return other && other->uuid != x.uuid ? other : nullptr;
}

bool storage_state::is_another_s(const model::domain& x, const model::volume& it) const {
  auto now = world_->system.read();
  auto* owner = model::owner_of(*now, it.pool, it.vid);
  if (owner && owner->uuid != x.uuid)
    return true;
  auto other = namesake(x);
  return other && std::ranges::any_of(other->volumes, [&](auto& theirs) {
           return theirs.pool == it.pool && theirs.vid == it.vid;
         });
}

void storage_state::forget_unborn(const model::domain& x) {
  auto i = unborn_.find(x.name.str());
  if (i != unborn_.end() && i->second->uuid == x.uuid)
    unborn_.erase(i);
}

/// As long as anything of an earlier domain of that name is there, nothing of the next is made.
void storage_state::take_turn(const domain_work_ptr& x) {
  auto now = world_->system.read();
  auto former = x->how.name == name_use::taken ? world_->removals.former(*x->of.domain) : nullptr;
  if (!former || now->find_uuid(former->uuid))
    return begin(x);
  remove_first(former, x);
}

void storage_state::remove_first(const model::domain_ptr& former, const domain_work_ptr& x) {
  auto then = [this, x](const outcome<void>& gone) {
    if (gone)
      return take_turn(x);
    x->why = {errc::storage,
              fmt::format("what a former '{}' left cannot be removed: {}", x->of.domain->name.str(),
                          gone.error().message()),
              "see to that first, or choose another name"};
    answer(x);
  };
  begin(removal({x->of.system, former}, std::move(then), false));
}

void storage_state::answer(const domain_work_ptr& x) {
  if (x->why)
    x->to(tl::unexpected{*x->why});
  else
    x->to(std::move(x->done));
  auto line = lives_.find(x->of.domain->name.str());
  if (!x->lined_up || line == lives_.end())
    return;
  line->second.pop_front();
  if (line->second.empty())
    lives_.erase(line);
  else
    take_turn(domain_work_ptr{line->second.front()});
}

void storage_state::begin(const domain_work_ptr& x) {
  auto todo = volumes_of(x->of, x->how);
  if (x->how.name == name_use::freed)
    std::erase_if(todo, [&](auto* it) { return is_another_s(*x->of.domain, *it); });
  if (!x->steps.first)
    return do_each(x, todo);
  auto go_on = [this, x](const auto& others, const auto& first) {
    if (first)
      return do_each(x, others);
    x->why = first.error();
    answer(x);
  };
  if (todo.empty())
    return hand_on(homes, typed_disk_job{x->of, disk_job::make_directory{}},
                   [go_on, todo](const outcome<void>& made) { go_on(todo, made); });
  auto* it = todo.front();
  todo.erase(todo.begin());
  hand_on(it->pool, x->steps.first(x->at(it)),
          [go_on, x, it, todo](const outcome<pool_result>& made) {
            if (made)
              x->done.push_back({it, *made});
            go_on(todo, made);
          });
}

void storage_state::do_each(const domain_work_ptr& x,
                            const std::vector<const model::volume*>& todo) {
  x->left = todo.size();
  if (todo.empty())
    return done_with_each(x);
  for (auto* it : todo)
    hand_on(it->pool, x->steps.each(x->at(it)), [this, x, it](outcome<pool_result> result) {
      if (result) {
        x->done.push_back({it, std::move(*result)});
      } else if (!x->why) {
        x->why = std::move(result.error());
      }
      if (--x->left == 0)
        done_with_each(x);
    });
}

void storage_state::done_with_each(const domain_work_ptr& x) {
  if (!x->why || !x->steps.undo || x->done.empty())
    return finish(x);
  x->left = x->done.size();
  for (auto& [it, found] : x->done)
    hand_on(it->pool, x->steps.undo(x->at(it)),
            [this, x](const auto& undone) { // the first reason is the one to tell
              x->stays = x->stays || !undone;
              if (--x->left == 0)
                finish(x);
            });
}

/// A directory says what there is to remove, and its name that it is not free: it goes last.
void storage_state::finish(const domain_work_ptr& x) {
  auto removes = x->how.name == name_use::freed;
  x->stays = x->stays || (removes && x->why);
  if (x->how.name == name_use::taken && !x->why)
    unborn_.insert_or_assign(x->of.domain->name.str(), x->of.domain);
  else if (removes)
    forget_unborn(*x->of.domain);
  if (x->with_directory() && x->stays)
    keep_for_later(x);
  auto removes_directory = removes || (x->with_directory() && x->why);
  if (!removes_directory || x->stays)
    return answer(x);
  auto then = [this, x](const outcome<void>& done) {
    if (!done && !x->why)
      x->why = done.error();
    if (done)
      world_->removals.end(x->of.domain->uuid);
    else
      keep_for_later(x);
    answer(x);
  };
  if (namesake(*x->of.domain))
    hand_on(homes, typed_disk_job{x->of, disk_job::forget_removal{}}, then);
  else
    hand_on(homes, typed_disk_job{x->of, disk_job::remove_directory{}}, then);
}

/// The removal is tried again before the domain's name is used again, or by the next daemon.
void storage_state::keep_for_later(const domain_work_ptr& x) {
  auto& who = x->of.domain;
  spdlog::error("{}: its disks are left behind: {}", who->name.str(),
                x->why ? x->why->message() : "they cannot be removed");
  world_->removals.note(who);
}

} // namespace qubes::actors
