#include "actors/storage/storage_pool.hpp"

#include "actors/common/off_thread.hpp"
#include "actors/storage/pool_jobs.hpp"

#include "model/base/overloaded.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
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

} // namespace

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
  rules_ = turn_rules{world_, pool_};
  disks_ = std::move(with);
  lanes_ = std::move(lanes);
  return {
      [this](const pool_job& what, const pool_reply& to) { take(what, to); },
      [this](pool_removed) {
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

// -- order and bounds -----------------------------------------------------------------------------

void storage_pool_state::take(const pool_job& what, const pool_reply& to) {
  auto x = std::make_shared<piece>(next_++, what, to);
  auto* copy = x->as<disk_job::copy_volume>();
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
                                  subject_of(x, pool_), bad->second.why.text),
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
      end(x, tl::unexpected{broken_off(subject_of(*x, pool_), x->how.word)});
      continue;
    }
    if (auto fits = rules_.judge(*x).and_then([&] { return rules_.reserve_contents(*x); }); !fits) {
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

/// A read under way may go on; a later one finds the volume gone. Other work has the volume's turn
/// meanwhile.
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

/// A volume that is marked failed must be verified first. The key keeps that work apart from what
/// an actor before this one began.
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

/// Runs on a storage thread; a listener hears no more than one piece of news per second and work.
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
  if (!x->given_up || !x->how.undone) // however late, what was done is done
    rules_.note(*x, result);
  x->holds.clear();
  if (x->given_up) {
    if (auto bad = failed_.find(x->key); bad != failed_.end())
      bad->second.held = false; // from here on it can be found well again
    spdlog::warn("{}: its {} has ended at last", subject_of(*x, pool_), x->how.word);
    pieces_.erase(x->number);
  } else {
    if (!result && result.error().code == errc::storage_stuck)
      mark(x, result.error(), false);
    else if (x->doubtful)
      result = tl::unexpected{model::error{
          errc::storage_stuck,
          fmt::format("{} is marked failed ({}) and is not well yet: {}", subject_of(*x, pool_),
                      failed_[x->key].why.text, result.error().text),
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

/// The asker was told that the work failed.
void storage_pool_state::take_back(const piece_ptr& x, const pool_result& found) {
  spdlog::warn("{}: its {} came too late and is taken back", subject_of(*x, pool_), x->how.word);
  off_thread(
      pool_actor{self}, *lanes_, drivers::lane::storage, fmt::format("{}:{}", pool_, x->key),
      [](const std::shared_ptr<drivers::disks>& with, const piece_ptr& x,
         const pool_result& found) -> outcome<void> {
        undo_job(*with, x->what, x->turn(), found);
        return {};
      },
      [this, x, found](const outcome<void>&) { done(x, found); }, disks_, x, found);
}

/// Whether work may leave its volume, or its pool, other than they were.
bool storage_pool_state::may_change(const piece& x) const {
  auto only_looks = x.how.harmless || x.is<disk_job::verify_volume>()
                    || x.is<disk_job::look_at_pool>() || x.is<disk_job::list_pool>();
  return !only_looks && !pool_.empty();
}

/// An actor that is told of an end reads nothing from before it, of the volume or of its pool.
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

/// What has become of a volume is known before a client asks; where more is to be done to it, after
/// that.
void storage_pool_state::look_again(const piece& x) {
  if (leaving_ || !x.at || !may_change(x) || x.is<disk_job::remove_volume>()
      || strands_.contains(x.key))
    return;
  take(typed_disk_job{volume_target{x.at->system, x.at->owner, x.at->it.name},
                      disk_job::look_at_volume{}},
       pool_reply{[](const auto&) {}});
}

/// The next work of the volume has its turn.
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
               fmt::format("{}: its {} had no turn within {} s", subject_of(*x, pool_), x->how.word,
                           (world_->settings.*x->how.gets_on).count()),
               "other work is in its way; see 'qvmctl status'"});
  arm();
}

/// The work's thread may never come back: no request waits for it, and nothing more is done to its
/// volume.
void storage_pool_state::give_up(const piece_ptr& x) {
  x->given_up = true;
  note_change(*x);
  x->signs->stop.request_stop();
  auto why = model::error{errc::storage_stuck,
                          fmt::format("{}: its {} did not get on for {} s", subject_of(*x, pool_),
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

/// Work that has not begun ends.
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
  spdlog::error("{}: marked failed: {}", subject_of(*x, pool_), why.text);
  world_->status.fail_volume(fmt::format("{}:{}", pool_, x->key), why.text);
  failed_.insert_or_assign(x->key, failure{std::move(why), held});
}

void storage_pool_state::unmark(const piece_ptr& x) {
  if (failed_.erase(x->key) > 0)
    world_->status.fail_volume(fmt::format("{}:{}", pool_, x->key), {});
}

} // namespace qubes::actors
