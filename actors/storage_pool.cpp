#include "actors/storage_pool.hpp"

#include "actors/off_thread.hpp"

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

// -- one piece of work ----------------------------------------------------------------------------

template <class T>
outcome<disk_report> report_of(outcome<T> x, T disk_report::*where) {
  return x.map([&](T& y) {
    auto result = disk_report{};
    result.*where = std::move(y);
    return result;
  });
}

outcome<disk_report> no_news(const outcome<void>& x) {
  return x.map([] { return disk_report{}; });
}

using volume_ref = const model::volume&;
using watch_ref = const supervision&;

/// Once it was given up, the name may be another domain's, and so may the directory.
outcome<void> create_first(disks& d, const disk_job& x, volume_ref it, watch_ref watch) {
  if (auto made = d.make_home(*x.system, *x.domain); !made)
    return made;
  auto created = d.create(*x.system, *x.domain, it);
  if (!created && !watch.stop.stop_requested())
    (void)d.remove_home(*x.domain); // the first reason is the one to tell
  return created;
}

/// With the size that it has then; none when nobody can tell.
outcome<disk_report> revert(disks& d, const disk_job& x, volume_ref it, watch_ref watch) {
  return d.revert(*x.system, it, x.text, watch).map([&] {
    auto result = disk_report{};
    if (auto found = d.look(*x.system, *x.domain, it))
      result.volume.size = found->size;
    return result;
  });
}

/// `it` is the job's volume, or an empty one where the job is about none.
struct piece_row {
  disk_task what;
  std::string_view word; ///< for refusals and progress
  outcome<disk_report> (*run)(disks&, const disk_job&, volume_ref it, watch_ref);
  bool heals = false;    ///< its success shows that the volume is well
  bool harmless = false; ///< may be done to a volume that is marked failed
};

// clang-format off
constexpr piece_row piece_rows[]{
  {disk_task::create, "create", [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
    return no_news(d.create(*x.system, *x.domain, it)); }, true},
  {disk_task::remove, "remove", [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
    return no_news(d.remove(*x.system, *x.domain, it)); }, true},
  {disk_task::verify, "verify", [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
    return no_news(d.verify(*x.system, *x.domain, it)); }, true},
  {disk_task::start, "start", [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
    return report_of(d.start(*x.system, *x.domain, it, w), &disk_report::text); }},
  {disk_task::stop, "stop", [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
    return no_news(d.stop(*x.system, *x.domain, it, w)); }, true},
  {disk_task::look, "look", [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
    return report_of(d.look(*x.system, *x.domain, it), &disk_report::volume); }, false, true},
  {disk_task::copy, "clone", [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
    return no_news(d.copy(*x.system, *x.source, it, w)); }},
  {disk_task::resize, "resize", [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
    return no_news(d.resize(*x.system, it, x.bytes, w)); }},
  {disk_task::clear, "clear", [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
    return no_news(d.clear(*x.system, it, x.bytes, w)); }},
  {disk_task::revert, "revert", [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
    return revert(d, x, it, w); }},
  {disk_task::begin_import, "import", [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
    return report_of(d.begin_import(*x.system, it, x.bytes, x.flag ? x.bytes : 0), &disk_report::text); }},
  {disk_task::end_import, "import", [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
    return no_news(d.end_import(*x.system, it, x.flag, w)); }},
  {disk_task::begin_export, "export", [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
    return report_of(d.begin_export(*x.system, it), &disk_report::text); }},
  {disk_task::end_export, "export", [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
    return no_news(d.end_export(*x.system, it, x.text)); }, false, true},
  {disk_task::set_up_pool, "set-up", [](disks& d, const disk_job& x, volume_ref, watch_ref) {
    return report_of(d.set_up(*x.system, *x.pool), &disk_report::callbacks); }},
  {disk_task::look_at_pool, "look", [](disks& d, const disk_job& x, volume_ref, watch_ref) {
    return report_of(d.look(*x.system, *x.pool), &disk_report::pool); }},
  {disk_task::list_pool, "list", [](disks& d, const disk_job& x, volume_ref, watch_ref) {
    return report_of(d.list(*x.system, *x.pool), &disk_report::names); }},
  {disk_task::make_home, "create", [](disks& d, const disk_job& x, volume_ref, watch_ref) {
    return no_news(d.make_home(*x.system, *x.domain)); }, true},
  {disk_task::create_first, "create", [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
    return no_news(create_first(d, x, it, w)); }, true},
  {disk_task::remove_home, "remove", [](disks& d, const disk_job& x, volume_ref, watch_ref) {
    return no_news(d.remove_home(*x.domain)); }, true},
};
// clang-format on

constexpr const piece_row& row_of(disk_task x) {
  return piece_rows[static_cast<std::size_t>(x)];
}

static_assert([] {
  for (auto i = std::size_t{0}; i < std::size(piece_rows); ++i)
    if (piece_rows[i].what != static_cast<disk_task>(i))
      return false;
  return std::size(piece_rows) == static_cast<std::size_t>(disk_task::remove_home) + 1;
}());

model::error broken_off(const std::string& subject, const piece_row& row) {
  return {errc::storage, fmt::format("{}: its {} was broken off", subject, row.word), {}};
}

} // namespace

struct storage_pool_state::piece {
  piece(std::uint64_t number, const disk_job& job, disk_reply to)
      : number(number), what(job), row(row_of(job.what)), to(std::move(to)) {
    if (what.domain)
      if (auto* found = what.domain->find_volume(what.volume))
        it = *found;
    if (what.errand)
      link.emplace(what.errand->stop.get_token(),
                   std::function<void()>{[signs = signs] { signs->stop.request_stop(); }});
  }

  const std::uint64_t number;
  const disk_job what;
  const piece_row& row;
  const disk_reply to;
  model::volume it{};
  std::string key{}; ///< of its strand; "" for no order
  std::string other{};
  std::int64_t since_us = 0;
  bool at_work = false;
  bool given_up = false;
  bool doubtful = false; ///< its volume was marked failed when it began
  volume_board::moment begun{};
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
  if (x.key.empty())
    return fmt::format("pool '{}'", pool_);
  return fmt::format("volume '{}' of pool '{}'", x.it.vid, pool_);
}

// -- order and bounds -----------------------------------------------------------------------------

void storage_pool_state::take(const disk_job& what, const disk_reply& to) {
  auto x = std::make_shared<piece>(next_++, what, to);
  x->key = pool_.empty() ? what.domain->name.str() : x->it.vid;
  x->other = what.source ? what.source->pool : pool_;
  x->since_us = world_->now_us();
  if (auto bad = failed_.find(x->key); bad != failed_.end() && bad->second.held)
    return to.refuse({errc::storage_stuck,
                      fmt::format("{} is marked failed, and what it failed at cannot be ended: {}",
                                  subject_of(*x), bad->second.why.text),
                      "look at its device or server"});
  pieces_.emplace(x->number, x);
  arm();
  note_change(*x);
  if (x->key.empty())
    return make_ready(x);
  auto& strand = strands_[x->key];
  strand.push_back(x);
  if (strand.size() == 1)
    make_ready(x);
}

void storage_pool_state::make_ready(const piece_ptr& x) {
  auto& in = lots_[x->other];
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
    ++in.busy;
    begin(x);
  }
}

/// Of a volume that is marked failed it must be known first that it is well. The key keeps it apart
/// from what an actor before this one began.
void storage_pool_state::begin(const piece_ptr& x) {
  x->at_work = true;
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
  auto& in = lots_[x->other];
  --in.busy;
  note_change(*x);
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
  if (!x->key.empty()) {
    auto strand = strands_.find(x->key);
    strand->second.pop_front();
    if (strand->second.empty())
      strands_.erase(strand);
    else
      make_ready(piece_ptr{strand->second.front()});
  }
  x->to.give(std::move(result));
}

// -- what does not get on -------------------------------------------------------------------------

std::int64_t storage_pool_state::deadline_of(const piece& x) const {
  auto limit = std::chrono::microseconds{world_->settings.disk_call}.count();
  return std::max(x.since_us, x.signs->heard_us.load()) + limit;
}

/// One timer at a time, and none while there is nothing to do.
void storage_pool_state::arm() {
  if (ticking_ || pieces_.empty())
    return;
  auto first = std::numeric_limits<std::int64_t>::max();
  for (auto& [number, x] : pieces_)
    if (!x->given_up)
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
    if (!x->given_up && deadline_of(*x) <= now_us)
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
  std::erase(lots_[x->other].ready, x);
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
