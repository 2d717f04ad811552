#include "actors/boards/volume_board.hpp"

#include <chrono>

namespace qubes::actors {

namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;
constexpr auto fresh_us = microseconds{5s}.count();   ///< good without another look
constexpr auto known_us = microseconds{1min}.count(); ///< for a reader that has it looked at again
constexpr auto most_changes = std::size_t{10'000};

} // namespace

volume_board::moment volume_board::now() const {
  auto guard = std::lock_guard{mutex_};
  return now_;
}

bool volume_board::unchanged(const place& x, moment since) const {
  auto last = changes_.find(x);
  return since >= (last == changes_.end() ? forgotten_ : last->second);
}

void volume_board::found(const model::domain_ptr& owner, const std::string& volume,
                         model::volume_facts facts, moment since, std::int64_t now_us) {
  auto* it = owner->find_volume(volume);
  auto guard = std::lock_guard{mutex_};
  if (it && unchanged({it->pool, it->vid}, since))
    volumes_.insert_or_assign({it->pool, it->vid}, entry<model::volume_facts>{
                                                       .facts = std::move(facts),
                                                       .found_us = now_us,
                                                       .since = since,
                                                       .owner = owner,
                                                       .volume = volume,
                                                   });
}

void volume_board::note_change(place x) {
  if (changes_.size() >= most_changes) {
    changes_.clear();
    forgotten_ = now_ + 1;
  }
  changes_[std::move(x)] = ++now_;
}

void volume_board::changed(const model::volume& it) {
  auto guard = std::lock_guard{mutex_};
  note_change({it.pool, it.vid});
  volumes_.erase({it.pool, it.vid});
}

template <class Facts>
std::optional<volume_board::known<Facts>> volume_board::tell(entry<Facts>& x, bool moves,
                                                             std::int64_t now_us) {
  auto age = now_us - x.found_us;
  if (moves && age >= known_us)
    return std::nullopt;
  auto ages = age >= (moves ? fresh_us : known_us) && now_us - x.asked_us >= fresh_us;
  if (ages)
    x.asked_us = now_us;
  return known<Facts>{x.facts, ages};
}

std::optional<volume_board::known<model::volume_facts>>
volume_board::read(const model::volume& it, bool moves, std::int64_t now_us) {
  auto guard = std::lock_guard{mutex_};
  auto i = volumes_.find({it.pool, it.vid});
  if (i == volumes_.end() || !unchanged({it.pool, it.source}, i->second.since)
      || *i->second.owner->find_volume(i->second.volume) != it)
    return std::nullopt;
  return tell(i->second, moves, now_us);
}

void volume_board::found(const std::string& pool, model::pool_facts facts, moment since,
                         std::int64_t now_us) {
  auto guard = std::lock_guard{mutex_};
  if (unchanged({{}, pool}, since))
    pools_.insert_or_assign(
        pool, entry<model::pool_facts>{.facts = std::move(facts), .found_us = now_us});
}

void volume_board::changed(const std::string& pool) {
  auto guard = std::lock_guard{mutex_};
  note_change({{}, pool});
  pools_.erase(pool);
}

std::optional<volume_board::known<model::pool_facts>> volume_board::read(const std::string& pool,
                                                                         std::int64_t now_us) {
  auto guard = std::lock_guard{mutex_};
  auto i = pools_.find(pool);
  return i == pools_.end() ? std::nullopt : tell(i->second, true, now_us);
}

std::optional<model::pool_facts> volume_board::last_known(const std::string& pool) const {
  auto guard = std::lock_guard{mutex_};
  auto i = pools_.find(pool);
  return i == pools_.end() ? std::nullopt : std::optional{i->second.facts};
}

} // namespace qubes::actors
