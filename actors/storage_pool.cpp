#include "actors/storage_pool.hpp"

#include "actors/disk_pieces.hpp"
#include "actors/off_thread.hpp"

#include "model/plan_storage.hpp"
#include "model/pool_driver.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using drivers::disks;
using drivers::supervision;
using model::errc;
using model::outcome;

namespace {

constexpr auto second_us = std::int64_t{1'000'000};

model::error broken_off(const std::string& subject, const disk_piece& row) {
  return {errc::storage, fmt::format("{}: its {} was broken off", subject, row.word), {}};
}

model::error gone(std::string_view volume, std::string_view domain) {
  return {errc::storage, fmt::format("volume '{}' of '{}' is gone", volume, domain), {}};
}

} // namespace

struct storage_pool_state::piece {
  piece(std::uint64_t number, const disk_job& job, disk_reply to)
      : number(number), what(job), row(piece_of(job.what)), to(std::move(to)) {
    if (what.domain)
      if (auto* found = what.domain->find_volume(what.volume))
        it = *found;
    if (what.errand)
      link.emplace(what.errand->stop.get_token(),
                   std::function<void()>{[signs = signs] { signs->stop.request_stop(); }});
  }

  const std::uint64_t number;
  disk_job what;
  const disk_piece& row;
  const disk_reply to;
  model::volume it{};
  std::string key{}; ///< of its strand; "" for no order
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
  const errand_ptr signs = std::make_shared<errand>();
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
      [this](const disk_job& what, const disk_reply& to) { take(what, to); },
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
  for (auto& [number, x] : pieces_)
    x->signs->stop.request_stop();
}

std::string storage_pool_state::subject_of(const piece& x) const {
  if (pool_.empty())
    return fmt::format("the directory of '{}'", x.key);
  if (x.it.name.empty())
    return fmt::format("pool '{}'", pool_);
  return fmt::format("volume '{}' of pool '{}'", x.it.vid, pool_);
}

// -- order and bounds -----------------------------------------------------------------------------

void storage_pool_state::take(const disk_job& what, const disk_reply& to) {
  auto x = std::make_shared<piece>(next_++, what, to);
  if (what.what != disk_task::end_export) // it must not wait for what waits for it
    x->key = !pool_.empty() ? x->it.vid : what.domain ? what.domain->name.str() : std::string{};
  x->other = what.source ? what.source->pool : pool_;
  x->since_us = world_->now_us();
  if (auto why = stuck(*x))
    return to.refuse(std::move(*why));
  pieces_.emplace(x->number, x);
  arm();
  note_change(*x);
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

storage_pool_state::lot& storage_pool_state::lot_of(const piece& x) {
  return lots_[{x.other, x.row.places}];
}

void storage_pool_state::make_ready(const piece_ptr& x) {
  auto& in = lot_of(*x);
  in.ready.push_back(x);
  fill(in);
}

void storage_pool_state::fill(lot& in) {
  while (!in.ready.empty() && in.busy < world_->settings.pool_workers) {
    auto x = in.ready.front();
    in.ready.pop_front();
    if (x->signs->stop.stop_requested()) {
      end(x, tl::unexpected{broken_off(subject_of(*x), x->row)});
      continue;
    }
    if (auto fits = judge(*x).and_then([&] { return claim(*x); }); !fits) {
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

/// What was true when the order came may not be so any more: the work is for this domain as it is
/// now, and for no other of its name.
outcome<void> storage_pool_state::judge(piece& x) const {
  auto now = world_->look();
  auto& job = x.what;
  if (x.row.follows) {
    auto me = now.system->share(job.domain->name.str());
    auto born = me || job.system->find_uuid(job.domain->uuid); // else it is in the making
    auto* it = me && me->uuid == job.domain->uuid ? me->find_volume(job.volume) : nullptr;
    if (born && (!it || it->pool != pool_))
      return tl::unexpected{gone(job.volume, job.domain->name.str())};
    if (it) {
      x.it = *it;
      job.domain = std::move(me);
    }
  } else if (job.what == disk_task::remove) {
    auto* owner = model::owner_of(*now.system, pool_, x.it.vid);
    if (owner && owner->uuid != job.domain->uuid)
      return model::fail(errc::storage, fmt::format("{} is that of another '{}' by now",
                                                    subject_of(x), owner->name.str()));
  } else if (job.what == disk_task::remove_home) {
    auto* owner = now.system->find(job.domain->name.str());
    if (owner && owner->uuid != job.domain->uuid)
      return model::fail(errc::storage,
                         fmt::format("{} is that of another one by now", subject_of(x)));
  }
  if (job.source && !job.source_owner.empty()) {
    auto* owner = now.system->find_uuid(job.source_owner);
    auto* it = owner ? owner->find_volume(job.source->name) : nullptr;
    if (!it || it->pool != job.source->pool || it->vid != job.source->vid) {
      auto* was = job.system->find_uuid(job.source_owner);
      return tl::unexpected{gone(job.source->name, was ? was->name.str() : std::string{})};
    }
    job.source = *it;
    if (auto still = model::check_readable(now.view(), *owner, *it); !still)
      return still;
  }
  if (x.row.follows || job.source)
    job.system = now.system;
  return judge_import(x).and_then([&]() -> outcome<void> {
    if (job.what == disk_task::begin_export)
      return model::check_readable(now.view(), *job.domain, x.it);
    if (job.what == disk_task::resize)
      job.flag = model::is_active(model::power_of(now.view(), *job.domain));
    return {};
  });
}

/// Only one writes to a volume from outside, and it is known who.
outcome<void> storage_pool_state::judge_import(piece& x) const {
  auto found = imports_.find(x.key);
  auto under_way = found == imports_.end() ? nullptr : &found->second;
  auto& job = x.what;
  switch (job.what) {
  case disk_task::begin_import:
  case disk_task::copy:
    if (under_way)
      return model::fail(
          errc::storage, fmt::format("data is being imported to {} already", subject_of(x)),
          "wait for its end; when its writer is gone, clearing or reverting the volume ends it");
    return {};
  case disk_task::resize:
    if (under_way && job.bytes < under_way->bytes)
      return model::fail(
          errc::storage,
          fmt::format("{} bytes are being imported to {}", under_way->bytes, subject_of(x)),
          "wait for their end");
    return {};
  case disk_task::end_import: job.bytes = under_way ? under_way->resized : 0; return {};
  case disk_task::clear:
  case disk_task::revert: job.flag = under_way != nullptr; return {};
  default: return {};
  }
}

/// Readers and those who change what is read keep each other out, in every pool alike.
outcome<void> storage_pool_state::claim(piece& x) const {
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
  auto& job = x.what;
  switch (job.what) {
  case disk_task::copy:
    if (!take({job.source->pool, job.source->vid}, use::read))
      return refused(job.source->vid, changed);
    return {};
  case disk_task::begin_export:
    if (!take({pool_, x.it.vid}, use::read))
      return refused(x.it.vid, changed);
    return {};
  case disk_task::start:
    if (works_in_place(*job.system, x.it) && !take({pool_, x.it.vid}, use::change))
      return refused(x.it.vid, read);
    if (auto* origin = origin_of(*job.system, x.it);
        origin && model::snapshots_disabled(*origin) && !take({pool_, origin->vid}, use::read))
      return refused(origin->vid, changed);
    return {};
  case disk_task::remove: x.waits = !take({pool_, x.it.vid}, use::change); return {};
  default: return {};
  }
}

bool storage_pool_state::works_in_place(const model::system& all, const model::volume& it) const {
  if (model::snapshots_disabled(it))
    return true;
  auto* home = all.find_pool(pool_);
  auto machine = world_->machine.read();
  auto* driver =
      home ? model::find_pool_driver(model::working_pool(*machine, *home).driver) : nullptr;
  return it.save_on_stop && driver && driver->in_place;
}

const model::volume* storage_pool_state::origin_of(const model::system& all,
                                                   const model::volume& it) const {
  return it.snap_on_start ? model::find_volume(all, pool_, it.source) : nullptr;
}

/// Whoever reads of it may go on; who comes later finds it gone. Others have its turn meanwhile.
void storage_pool_state::wait_for_readers(const piece_ptr& x) {
  x->waits = false;
  leave_strand(x);
  world_->contents.when_free({pool_, x->it.vid}, [me = pool_actor{self}, this, x] {
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
  x->doubtful = failed_.contains(x->key) && !x->row.heals && !x->row.harmless;
  auto key = x->key.empty() ? std::string{} : fmt::format("{}:{}", pool_, x->key);
  off_thread(
      pool_actor{self}, *lanes_, drivers::lane::storage, std::move(key),
      [](const std::shared_ptr<drivers::disks>& with, const piece_ptr& x,
         const supervision& watch) {
        auto sound =
            x->doubtful ? with->verify(*x->what.system, *x->what.domain, x->it) : outcome<void>{};
        auto result = sound.and_then([&] { return x->row.run(*with, x->what, x->it, watch); });
        if (sound && x->doubtful)
          x->doubtful = false;
        return result;
      },
      [this, x](outcome<disk_report> result) { done(x, std::move(result)); }, disks_, x, watch(x));
  arm();
}

/// Runs on a storage thread; nobody hears more than one piece of news per second and work.
supervision storage_pool_state::watch(const piece_ptr& x) const {
  if (x->it.name.empty())
    return {.stop = x->signs->stop.get_token()};
  auto told_us = std::make_shared<std::int64_t>(x->since_us);
  return {.stop = x->signs->stop.get_token(),
          .tell = [signs = x->signs, owner = x->what.errand, now = world_->now_us,
                   hub = world_->events, who = x->what.domain->name.str(), volume = x->it.name,
                   word = x->row.word, told_us](std::uint64_t part, std::uint64_t of) {
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

void storage_pool_state::done(const piece_ptr& x, outcome<disk_report> result) {
  if (x->given_up && result && x->row.undo && !std::exchange(x->undone, true))
    return take_back(x, *result);
  auto& in = lot_of(*x);
  --in.busy;
  note_change(*x);
  if (!x->given_up)
    note_uses(*x, result);
  x->holds.clear();
  if (x->given_up) {
    if (auto bad = failed_.find(x->key); bad != failed_.end())
      bad->second.held = false; // from here on it can be found well again
    spdlog::warn("{}: its {} has ended at last", subject_of(*x), x->row.word);
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
    else if (!x->row.harmless && (result || !x->row.heals))
      unmark(x);
    note_facts(*x, result);
    end(x, std::move(result));
  }
  fill(in);
  if (leaving_ && pieces_.empty())
    self->quit();
}

/// Whoever wanted it was told that it failed.
void storage_pool_state::take_back(const piece_ptr& x, const disk_report& what) {
  spdlog::warn("{}: its {} came too late and is taken back", subject_of(*x), x->row.word);
  off_thread(
      pool_actor{self}, *lanes_, drivers::lane::storage, fmt::format("{}:{}", pool_, x->key),
      [](const std::shared_ptr<drivers::disks>& with, const piece_ptr& x,
         const disk_report& what) -> outcome<disk_report> {
        x->row.undo(*with, x->what, x->it, what);
        return disk_report{};
      },
      [this, x](outcome<disk_report> nothing) { done(x, std::move(nothing)); }, disks_, x, what);
}

/// What goes on after this piece of work: an export that is read, an import that is written.
void storage_pool_state::note_uses(const piece& x, const outcome<disk_report>& found) {
  auto& job = x.what;
  switch (job.what) {
  case disk_task::begin_export:
    if (found)
      world_->contents.keep({pool_, x.it.vid}, found->text, x.holds.front());
    return;
  case disk_task::end_export: return world_->contents.drop({pool_, x.it.vid}, job.text);
  case disk_task::begin_import:
    if (found)
      imports_[x.key] = {.bytes = found->volume.size};
    return;
  case disk_task::resize:
    if (auto i = imports_.find(x.key); found && i != imports_.end())
      i->second.resized = std::max(i->second.resized, found->volume.size);
    return;
  case disk_task::start:
  case disk_task::remove:
    if (found)
      imports_.erase(x.key);
    return;
  case disk_task::end_import: // whatever became of it
  case disk_task::clear:
  case disk_task::revert: imports_.erase(x.key); return;
  default: return;
  }
}

/// Nothing is known of a volume that is being worked on, nor of its pool.
void storage_pool_state::note_change(const piece& x) {
  if (x.row.harmless || pool_.empty())
    return;
  if (!x.key.empty())
    world_->volumes.changed(x.it);
  if (x.row.what != disk_task::look_at_pool)
    world_->volumes.changed(pool_);
}

/// Where a look failed, what was known before is not true any more.
void storage_pool_state::note_facts(const piece& x, const outcome<disk_report>& found) {
  auto& board = world_->volumes;
  if (x.row.what == disk_task::look && found)
    board.found(x.what.domain, x.it.name, found->volume, x.begun, world_->now_us());
  else if (x.row.what == disk_task::look)
    board.changed(x.it);
  else if (x.row.what == disk_task::look_at_pool && found)
    board.found(pool_, found->pool, x.begun, world_->now_us());
  else if (x.row.what == disk_task::look_at_pool)
    board.changed(pool_);
}

/// The next of its volume has its turn.
void storage_pool_state::end(const piece_ptr& x, outcome<disk_report> result) {
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
  auto limit = std::chrono::microseconds{world_->settings.disk_call}.count();
  return std::max(x.since_us, x.signs->heard_us.load()) + limit;
}

/// A stop or a removal has its turn, however late.
bool storage_pool_state::has_deadline(const piece& x) const {
  return !x.given_up && (x.at_work || x.row.places != disk_places::ends);
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
               fmt::format("{}: its {} had no turn within {} s", subject_of(*x), x->row.word,
                           world_->settings.disk_call.count()),
               "other work is in its way; see 'qvmctl status'"});
  arm();
}

/// Its thread may never come back: nobody waits for it, and nothing more is done to its volume.
void storage_pool_state::give_up(const piece_ptr& x) {
  x->given_up = true;
  x->signs->stop.request_stop();
  auto why = model::error{errc::storage_stuck,
                          fmt::format("{}: its {} did not get on for {} s", subject_of(*x),
                                      x->row.word, world_->settings.disk_call.count()),
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
  std::erase(lot_of(*x).ready, x);
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
