#include "actors/storage/storage_pool.hpp"

#include "actors/common/off_thread.hpp"
#include "actors/storage/pool_jobs.hpp"

#include "model/base/overloaded.hpp"
#include "model/change/plan_storage.hpp"
#include "model/storage/pool_driver.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <concepts>
#include <limits>

namespace qubes::actors {

using drivers::supervision;
using model::errc;
using model::outcome;

namespace {

constexpr auto second_us = std::int64_t{1'000'000};

/// A job about what a handler is for.
template <class Job>
using typed = typed_disk_job<Job>;

using disk_job::volume_target;

model::error broken_off(const std::string& subject, std::string_view word) {
  return {errc::storage, fmt::format("{}: its {} was broken off", subject, word), {}};
}

model::error gone(std::string_view volume, std::string_view domain) {
  return {errc::storage, fmt::format("volume '{}' of '{}' is gone", volume, domain), {}};
}

/// As whoever asked knows it.
std::optional<volume_turn> turn_of(const pool_job& x) {
  return std::visit(
      []<class Job>(const typed<Job>& y) -> std::optional<volume_turn> {
        if constexpr (std::same_as<typename Job::about, volume_target>) {
          auto* it = y.about.domain->find_volume(y.about.volume);
          return volume_turn{
              .system = y.about.system, .owner = y.about.domain, .it = it ? *it : model::volume{}};
        } else {
          return std::nullopt;
        }
      },
      x.what);
}

/// What work is kept in order for: a volume, a domain's directory, or "".
std::string key_of(const pool_job& x, const std::optional<volume_turn>& at) {
  return std::visit(
      model::overloaded{
          [](const typed<disk_job::end_export>&) { // what waits for it is before it
            return std::string{};
          },
          [&]<class Job>(const typed<Job>& y) {
            if constexpr (std::same_as<typename Job::about, volume_target>)
              return at->it.vid;
            else if constexpr (std::same_as<typename Job::about, disk_job::domain_target>)
              return y.about.domain->name.str();
            else
              return std::string{};
          }},
      x.what);
}

template <class Job>
typed<Job>* as(pool_job& x) {
  return std::get_if<typed<Job>>(&x.what);
}

} // namespace

struct storage_pool_state::piece {
  piece(std::uint64_t number, const pool_job& job, pool_reply to)
      : number(number), what(job), how(manner_of(what)), to(std::move(to)), at(turn_of(what)),
        key(key_of(what, at)), owner(cancellation_of(what)) {
    if (owner)
      link.emplace(owner->stop.get_token(),
                   std::function<void()>{[signs = signs] { signs->stop.request_stop(); }});
  }

  template <class Job>
  bool is() const {
    return std::holds_alternative<typed<Job>>(what.what);
  }
  const volume_turn* turn() const { return at ? &*at : nullptr; }

  const std::uint64_t number;
  pool_job what;
  const disk_job::manner& how;
  const pool_reply to;
  std::optional<volume_turn> at; ///< of a job about a volume
  const std::string key;         ///< of its strand; "" for no order
  const cancellation_ptr owner;  ///< of whoever may break it off, and hears that it gets on
  std::string other{};
  std::int64_t since_us = 0;
  bool at_work = false;
  bool given_up = false;
  bool undone = false;   ///< what came too late
  bool waits = false;    ///< for readers
  bool doubtful = false; ///< its volume was marked failed when it began
  volume_board::moment begun{};
  std::vector<content_uses::hold> holds{}; ///< as long as a thread is at it
  /// What the thread at work says, and is told.
  const cancellation_ptr signs = std::make_shared<cancellation>();
  std::optional<std::stop_callback<std::function<void()>>> link{};
};

// -- the actor ------------------------------------------------------------------------------------

pool_actor::behavior_type storage_pool(pool_actor::stateful_pointer<storage_pool_state> self,
                                       world_ptr in, std::string pool,
                                       std::shared_ptr<drivers::disks> with,
                                       std::shared_ptr<drivers::executor> lanes) {
  return self->state.make(std::move(in), std::move(pool), std::move(with), std::move(lanes));
}

pool_actor::behavior_type storage_pool_state::make(world_ptr in, std::string pool,
                                                   std::shared_ptr<drivers::disks> with,
                                                   std::shared_ptr<drivers::executor> lanes) {
  world_ = std::move(in);
  pool_ = std::move(pool);
  disks_ = std::move(with);
  lanes_ = std::move(lanes);
  return {
      [this](const pool_job& what, const pool_reply& to) { take(what, to); },
      [this](atom::gone) {
        leaving_ = true;
        if (pieces_.empty())
          self->quit();
      },
      [](const completion& run) { run(); },
      [this](atom::tick) { look_for_overdue(); },
  };
}

storage_pool_state::~storage_pool_state() {
  for (auto& [number, x] : pieces_) {
    x->signs->stop.request_stop();
    note_change(*x);
  }
}

std::string storage_pool_state::subject_of(const piece& x) const {
  if (pool_.empty())
    return fmt::format("the directory of '{}'", x.key);
  if (!x.at)
    return fmt::format("pool '{}'", pool_);
  return fmt::format("volume '{}' of pool '{}'", x.at->it.vid, pool_);
}

// -- order and bounds -----------------------------------------------------------------------------

void storage_pool_state::take(const pool_job& what, const pool_reply& to) {
  auto x = std::make_shared<piece>(next_++, what, to);
  auto* copy = as<disk_job::copy_volume>(x->what);
  x->other = copy ? copy->what.source.pool : pool_;
  x->since_us = world_->now_us();
  if (auto why = stuck(*x))
    return to.refuse(std::move(*why));
  pieces_.emplace(x->number, x);
  arm();
  line_up(x);
}

/// A thread works on the volume and cannot be ended.
std::optional<model::error> storage_pool_state::stuck(const piece& x) const {
  auto bad = failed_.find(x.key);
  if (bad == failed_.end() || !bad->second.held)
    return std::nullopt;
  return model::error{errc::storage_stuck,
                      fmt::format("{} is marked failed, and what it failed at cannot be ended: {}",
                                  subject_of(x), bad->second.why.text),
                      "look at its device or server"};
}

void storage_pool_state::line_up(const piece_ptr& x) {
  if (x->key.empty())
    return make_ready(x);
  auto& strand = strands_[x->key];
  strand.push_back(x);
  if (strand.size() == 1)
    make_ready(x);
}

storage_pool_state::queue& storage_pool_state::queue_of(const piece& x) {
  return queues_[{x.other, x.how.turn}];
}

void storage_pool_state::make_ready(const piece_ptr& x) {
  auto& in = queue_of(*x);
  in.ready.push_back(x);
  fill(in);
}

void storage_pool_state::fill(queue& in) {
  while (!in.ready.empty() && in.busy < world_->settings.pool_workers) {
    auto x = in.ready.front();
    in.ready.pop_front();
    if (x->signs->stop.stop_requested()) {
      end(x, tl::unexpected{broken_off(subject_of(*x), x->how.word)});
      continue;
    }
    if (auto fits = judge(*x).and_then([&] { return reserve_contents(*x); }); !fits) {
      end(x, tl::unexpected{std::move(fits.error())});
      continue;
    }
    if (x->waits) {
      wait_for_readers(x);
      continue;
    }
    ++in.busy;
    begin(x);
  }
}

// -- in the volume's turn -------------------------------------------------------------------------

/// What was true when the order came may not be so any more.
outcome<void> storage_pool_state::judge(piece& x) const {
  auto now = world_->look();
  return (x.how.follows ? follow(x, now) : judge_owner(x, now))
      .and_then([&] { return judge_source(x, now); })
      .and_then([&] { return judge_import(x); })
      .and_then([&]() -> outcome<void> {
        if (x.is<disk_job::begin_export>())
          return model::check_readable(now.view(), *x.at->owner, x.at->it);
        return {};
      });
}

/// The work is for this domain as it is now, and for no other of its name.
outcome<void> storage_pool_state::follow(piece& x, const snapshot& now) const {
  auto& at = *x.at;
  auto me = now.system->share(at.owner->name.str());
  auto born = me || at.system->find_uuid(at.owner->uuid); // else it is in the making
  auto* it = me && me->uuid == at.owner->uuid ? me->find_volume(at.it.name) : nullptr;
  if (born && (!it || it->pool != pool_))
    return tl::unexpected{gone(at.it.name, at.owner->name.str())};
  if (it) {
    at.it = *it;
    at.owner = std::move(me);
  }
  at.system = now.system;
  at.guest_at_work = model::is_active(model::power_of(now.view(), *at.owner));
  return {};
}

outcome<void> storage_pool_state::judge_owner(const piece& x, const snapshot& now) const {
  auto unless_another_s = [&](const model::domain* owner,
                              const model::domain& former) -> outcome<void> {
    if (!owner || owner->uuid == former.uuid)
      return {};
    return model::fail(errc::storage, fmt::format("{} is that of another '{}' by now",
                                                  subject_of(x), owner->name.str()));
  };
  return std::visit(model::overloaded{
                        [&](const typed<disk_job::remove_volume>&) {
                          return unless_another_s(model::owner_of(*now.system, pool_, x.at->it.vid),
                                                  *x.at->owner);
                        },
                        [&](const typed<disk_job::remove_directory>& y) {
                          auto& former = *y.about.domain;
                          return unless_another_s(now.system->find(former.name.str()), former);
                        },
                        [](const auto&) { return outcome<void>{}; },
                    },
                    x.what.what);
}

outcome<void> storage_pool_state::judge_source(piece& x, const snapshot& now) {
  auto* copy = as<disk_job::copy_volume>(x.what);
  if (!copy)
    return {};
  auto& source = copy->what.source;
  auto* owner = now.system->find_uuid(copy->what.source_owner);
  auto* it = owner ? owner->find_volume(source.name) : nullptr;
  if (!it || it->pool != source.pool || it->vid != source.vid) {
    auto* was = copy->about.system->find_uuid(copy->what.source_owner);
    return tl::unexpected{gone(source.name, was ? was->name.str() : std::string{})};
  }
  source = *it;
  return model::check_readable(now.view(), *owner, *it);
}

/// Only one writes to a volume from outside, and it is known who.
outcome<void> storage_pool_state::judge_import(piece& x) const {
  if (!x.at)
    return {};
  auto found = imports_.find(x.key);
  auto& under_way = x.at->import;
  under_way = found == imports_.end() ? std::nullopt : std::optional{found->second};
  auto unless_under_way = [&]() -> outcome<void> {
    if (!under_way)
      return {};
    return model::fail(
        errc::storage, fmt::format("data is being imported to {} already", subject_of(x)),
        "wait for its end; when its writer is gone, clearing or reverting the volume ends it");
  };
  return std::visit(model::overloaded{
                        [&](const typed<disk_job::begin_import>&) { return unless_under_way(); },
                        [&](const typed<disk_job::copy_volume>&) { return unless_under_way(); },
                        [&](const typed<disk_job::resize_volume>& y) -> outcome<void> {
                          if (under_way && y.what.bytes < under_way->bytes)
                            return model::fail(errc::storage,
                                               fmt::format("{} bytes are being imported to {}",
                                                           under_way->bytes, subject_of(x)),
                                               "wait for their end");
                          return {};
                        },
                        [](const auto&) { return outcome<void>{}; },
                    },
                    x.what.what);
}

/// Readers and those who change what is read keep each other out, in every pool alike.
outcome<void> storage_pool_state::reserve_contents(piece& x) const {
  using use = content_uses::use;
  auto& contents = world_->contents;
  auto take = [&](const content_uses::place& place, use how) {
    auto held = contents.take(place, how);
    if (held)
      x.holds.push_back(held);
    return held != nullptr;
  };
  auto refused = [&](std::string_view vid, std::string_view why) {
    return model::fail(errc::storage, fmt::format("volume '{}' {}", vid, why), "try again later");
  };
  constexpr auto read = "is being read by a copy, a backup or a start";
  constexpr auto changed = "is being started in place, or removed";
  return std::visit(model::overloaded{
                        [&](const typed<disk_job::copy_volume>& y) -> outcome<void> {
                          auto& source = y.what.source;
                          if (!take({source.pool, source.vid}, use::read))
                            return refused(source.vid, changed);
                          return {};
                        },
                        [&](const typed<disk_job::begin_export>&) -> outcome<void> {
                          if (!take({pool_, x.at->it.vid}, use::read))
                            return refused(x.at->it.vid, changed);
                          return {};
                        },
                        [&](const typed<disk_job::start_volume>&) -> outcome<void> {
                          if (works_in_place(*x.at) && !take({pool_, x.at->it.vid}, use::change))
                            return refused(x.at->it.vid, read);
                          if (auto* origin = origin_of(*x.at);
                              origin && model::snapshots_disabled(*origin)
                              && !take({pool_, origin->vid}, use::read))
                            return refused(origin->vid, changed);
                          return {};
                        },
                        [&](const typed<disk_job::remove_volume>&) -> outcome<void> {
                          x.waits = !take({pool_, x.at->it.vid}, use::change);
                          return {};
                        },
                        [](const auto&) { return outcome<void>{}; },
                    },
                    x.what.what);
}

bool storage_pool_state::works_in_place(const volume_turn& at) const {
  if (model::snapshots_disabled(at.it))
    return true;
  auto* home = at.system->find_pool(pool_);
  auto machine = world_->machine.read();
  auto* driver =
      home ? model::find_pool_driver(model::working_pool(*machine, *home).driver) : nullptr;
  return at.it.save_on_stop && driver && driver->in_place;
}

const model::volume* storage_pool_state::origin_of(const volume_turn& at) const {
  return at.it.snap_on_start ? model::find_volume(*at.system, pool_, at.it.source) : nullptr;
}

/// Whoever reads of it may go on; who comes later finds it gone. Others have its turn meanwhile.
void storage_pool_state::wait_for_readers(const piece_ptr& x) {
  x->waits = false;
  leave_strand(x);
  world_->contents.when_free({pool_, x->at->it.vid}, [me = pool_actor{self}, this, x] {
    caf::anon_send(me, completion{[this, x] { resume(x); }});
  });
}

void storage_pool_state::resume(const piece_ptr& x) {
  x->since_us = world_->now_us();
  auto why = stuck(*x);
  if (!why)
    return line_up(x);
  pieces_.erase(x->number);
  x->to.refuse(std::move(*why));
  if (leaving_ && pieces_.empty())
    self->quit();
}

/// Of a volume that is marked failed it must be known first that it is well. The key keeps it apart
/// from what an actor before this one began.
void storage_pool_state::begin(const piece_ptr& x) {
  x->at_work = true;
  x->waits = false;
  x->since_us = world_->now_us();
  x->begun = world_->volumes.now();
  x->doubtful = x->at && failed_.contains(x->key) && !x->how.heals && !x->how.harmless;
  auto key = x->key.empty() ? std::string{} : fmt::format("{}:{}", pool_, x->key);
  off_thread(
      pool_actor{self}, *lanes_, drivers::lane::storage, std::move(key),
      [](const std::shared_ptr<drivers::disks>& with, const piece_ptr& x,
         const supervision& watch) {
        auto* at = x->turn();
        auto sound = x->doubtful ? with->verify(*at->system, *at->owner, at->it) : outcome<void>{};
        auto result = sound.and_then([&] { return do_job(*with, x->what, at, watch); });
        if (sound && x->doubtful)
          x->doubtful = false;
        return result;
      },
      [this, x](outcome<pool_result> result) { done(x, std::move(result)); }, disks_, x, watch(x));
  arm();
}

/// Runs on a storage thread; nobody hears more than one piece of news per second and work.
supervision storage_pool_state::watch(const piece_ptr& x) const {
  if (!x->at)
    return {.stop = x->signs->stop.get_token()};
  auto told_us = std::make_shared<std::int64_t>(x->since_us);
  return {.stop = x->signs->stop.get_token(),
          .tell = [signs = x->signs, owner = x->owner, now = world_->now_us, hub = world_->events,
                   who = x->at->owner->name.str(), volume = x->at->it.name, word = x->how.word,
                   told_us](std::uint64_t part, std::uint64_t of) {
            auto now_us = now();
            signs->heard_us = now_us;
            if (owner)
              owner->heard_us = now_us;
            if (of == 0 || now_us - *told_us < second_us)
              return;
            *told_us = now_us;
            auto percent = 100 * static_cast<double>(std::min(part, of)) / static_cast<double>(of);
            caf::anon_send(hub, events{{who,
                                        "domain-volume-progress",
                                        {{"volume", volume},
                                         {"operation", std::string{word}},
                                         {"progress", fmt::format("{:.1f}", percent)}}}});
          }};
}

void storage_pool_state::done(const piece_ptr& x, outcome<pool_result> result) {
  if (x->given_up && result && x->how.undone && !std::exchange(x->undone, true))
    return take_back(x, *result);
  auto& in = queue_of(*x);
  --in.busy;
  note_change(*x);
  if (!x->given_up)
    note_uses(*x, result);
  x->holds.clear();
  if (x->given_up) {
    if (auto bad = failed_.find(x->key); bad != failed_.end())
      bad->second.held = false; // from here on it can be found well again
    spdlog::warn("{}: its {} has ended at last", subject_of(*x), x->how.word);
    pieces_.erase(x->number);
  } else {
    if (!result && result.error().code == errc::storage_stuck)
      mark(x, result.error(), false);
    else if (x->doubtful)
      result = tl::unexpected{
          model::error{errc::storage_stuck,
                       fmt::format("{} is marked failed ({}) and is not well yet: {}",
                                   subject_of(*x), failed_[x->key].why.text, result.error().text),
                       result.error().hint}};
    else if (!x->how.harmless && (result || !x->how.heals))
      unmark(x);
    note_facts(*x, result);
    end(x, std::move(result));
    look_again(*x);
  }
  fill(in);
  if (leaving_ && pieces_.empty())
    self->quit();
}

/// Whoever wanted it was told that it failed.
void storage_pool_state::take_back(const piece_ptr& x, const pool_result& found) {
  spdlog::warn("{}: its {} came too late and is taken back", subject_of(*x), x->how.word);
  off_thread(
      pool_actor{self}, *lanes_, drivers::lane::storage, fmt::format("{}:{}", pool_, x->key),
      [](const std::shared_ptr<drivers::disks>& with, const piece_ptr& x,
         const pool_result& found) -> outcome<void> {
        undo_job(*with, x->what, x->turn(), found);
        return {};
      },
      [this, x, found](const outcome<void>&) { done(x, found); }, disks_, x, found);
}

/// What goes on after this piece of work: an export that is read, an import that is written.
void storage_pool_state::note_uses(const piece& x, const outcome<pool_result>& found) {
  auto forget_import = [&] { imports_.erase(x.key); };
  auto forget_if_done = [&] {
    if (found)
      forget_import();
  };
  std::visit(
      model::overloaded{
          [&](const typed<disk_job::begin_export>&) {
            if (found)
              world_->contents.keep({pool_, x.at->it.vid}, found->get<disk_job::begin_export>(),
                                    x.holds.front());
          },
          [&](const typed<disk_job::end_export>& y) {
            world_->contents.drop({pool_, x.at->it.vid}, y.what.path);
          },
          [&](const typed<disk_job::begin_import>&) {
            if (found)
              imports_[x.key] = {.bytes = found->get<disk_job::begin_import>().bytes};
          },
          [&](const typed<disk_job::resize_volume>&) {
            if (auto i = imports_.find(x.key); found && i != imports_.end())
              i->second.resized =
                  std::max(i->second.resized, found->get<disk_job::resize_volume>());
          },
          [&](const typed<disk_job::start_volume>&) { forget_if_done(); },
          [&](const typed<disk_job::remove_volume>&) { forget_if_done(); },
          [&](const typed<disk_job::end_import>&) { forget_import(); }, // whatever became of it
          [&](const typed<disk_job::clear_volume>&) { forget_if_done(); },
          [&](const typed<disk_job::revert_volume>&) { forget_if_done(); },
          [](const auto&) {},
      },
      x.what.what);
}

/// It may leave its volume, or its pool, other than they were.
bool storage_pool_state::may_change(const piece& x) const {
  auto only_looks = x.how.harmless || x.is<disk_job::verify_volume>()
                    || x.is<disk_job::look_at_pool>() || x.is<disk_job::list_pool>();
  return !only_looks && !pool_.empty();
}

/// Whoever is told of an end reads nothing from before it, of the volume or of its pool.
void storage_pool_state::note_change(const piece& x) {
  if (!may_change(x))
    return;
  if (x.at && !x.key.empty())
    world_->volumes.changed(x.at->it);
  world_->volumes.changed(pool_);
}

/// Where a look failed, what was known before is not true any more.
void storage_pool_state::note_facts(const piece& x, const outcome<pool_result>& found) {
  auto& board = world_->volumes;
  std::visit(model::overloaded{
                 [&](const typed<disk_job::look_at_volume>&) {
                   if (found)
                     board.found(x.at->owner, x.at->it.name, found->get<disk_job::look_at_volume>(),
                                 x.begun, world_->now_us());
                   else
                     board.changed(x.at->it);
                 },
                 [&](const typed<disk_job::look_at_pool>&) {
                   if (found)
                     board.found(pool_, found->get<disk_job::look_at_pool>(), x.begun,
                                 world_->now_us());
                   else
                     board.changed(pool_);
                 },
                 [](const auto&) {},
             },
             x.what.what);
}

/// What has become of a volume is known before anybody asks; where more is to be done to it, after
/// that.
void storage_pool_state::look_again(const piece& x) {
  if (leaving_ || !x.at || !may_change(x) || x.is<disk_job::remove_volume>()
      || strands_.contains(x.key))
    return;
  take(typed_disk_job{volume_target{x.at->system, x.at->owner, x.at->it.name},
                      disk_job::look_at_volume{}},
       pool_reply{[](const auto&) {}});
}

/// The next of its volume has its turn.
void storage_pool_state::end(const piece_ptr& x, outcome<pool_result> result) {
  pieces_.erase(x->number);
  leave_strand(x);
  x->to.give(std::move(result));
}

void storage_pool_state::leave_strand(const piece_ptr& x) {
  if (x->key.empty())
    return;
  auto strand = strands_.find(x->key);
  strand->second.pop_front();
  if (strand->second.empty())
    strands_.erase(strand);
  else
    make_ready(piece_ptr{strand->second.front()});
}

// -- what does not get on -------------------------------------------------------------------------

std::int64_t storage_pool_state::deadline_of(const piece& x) const {
  auto limit = std::chrono::microseconds{world_->settings.*x.how.gets_on}.count();
  return std::max(x.since_us, x.signs->heard_us.load()) + limit;
}

/// A stop or a removal has its turn, however late.
bool storage_pool_state::has_deadline(const piece& x) const {
  return !x.given_up && (x.at_work || !x.how.may_begin_late());
}

/// One timer at a time, and none while there is nothing to do.
void storage_pool_state::arm() {
  if (ticking_ || pieces_.empty())
    return;
  auto first = std::numeric_limits<std::int64_t>::max();
  for (auto& [number, x] : pieces_)
    if (has_deadline(*x))
      first = std::min(first, deadline_of(*x));
  if (first == std::numeric_limits<std::int64_t>::max())
    return;
  ticking_ = true;
  auto wait = std::max(first - world_->now_us(), second_us);
  self->delayed_send(self, std::chrono::microseconds{wait}, atom::tick_v);
}

void storage_pool_state::look_for_overdue() {
  ticking_ = false;
  auto now_us = world_->now_us();
  auto overdue = std::vector<piece_ptr>{};
  for (auto& [number, x] : pieces_)
    if (has_deadline(*x) && deadline_of(*x) <= now_us)
      overdue.push_back(x);
  for (auto& x : overdue)
    if (x->at_work)
      give_up(x);
  for (auto& x : overdue)
    if (!x->at_work && pieces_.contains(x->number))
      drop(x, {errc::storage,
               fmt::format("{}: its {} had no turn within {} s", subject_of(*x), x->how.word,
                           (world_->settings.*x->how.gets_on).count()),
               "other work is in its way; see 'qvmctl status'"});
  arm();
}

/// Its thread may never come back: nobody waits for it, and nothing more is done to its volume.
void storage_pool_state::give_up(const piece_ptr& x) {
  x->given_up = true;
  note_change(*x);
  x->signs->stop.request_stop();
  auto why = model::error{errc::storage_stuck,
                          fmt::format("{}: its {} did not get on for {} s", subject_of(*x),
                                      x->how.word, (world_->settings.*x->how.gets_on).count()),
                          "look at its device or server"};
  mark(x, why, true);
  if (auto strand = strands_.extract(x->key); !strand.empty())
    for (auto& y : strand.mapped())
      if (y != x) {
        pieces_.erase(y->number);
        y->to.refuse(why);
      }
  x->to.refuse(why);
}

/// It has not begun.
void storage_pool_state::drop(const piece_ptr& x, model::error why) {
  std::erase(queue_of(*x).ready, x);
  auto strand = x->key.empty() ? strands_.end() : strands_.find(x->key);
  if (strand == strands_.end() || strand->second.front() == x)
    return end(x, tl::unexpected{std::move(why)});
  std::erase(strand->second, x);
  pieces_.erase(x->number);
  x->to.refuse(std::move(why));
}

void storage_pool_state::mark(const piece_ptr& x, model::error why, bool held) {
  if (x->key.empty())
    return;
  spdlog::error("{}: marked failed: {}", subject_of(*x), why.text);
  world_->status.fail_volume(fmt::format("{}:{}", pool_, x->key), why.text);
  failed_.insert_or_assign(x->key, failure{std::move(why), held});
}

void storage_pool_state::unmark(const piece_ptr& x) {
  if (failed_.erase(x->key) > 0)
    world_->status.fail_volume(fmt::format("{}:{}", pool_, x->key), {});
}

} // namespace qubes::actors
