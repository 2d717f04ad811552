#include "actors/common/stop_waiters.hpp"

#include <algorithm>
#include <utility>

namespace qubes::actors {

namespace {

struct row {
  waits_as how;
  bool down;
  bool stays;
  bool not_killed;

  bool ends(stop_end what) const {
    switch (what) {
    case stop_end::down: return down;
    case stop_end::stays: return stays;
    case stop_end::not_killed: return not_killed;
    }
    return true;
  }
};

/// Waiters that an end does not concern go on waiting: something else is under way for them.
constexpr row stop_ends[]{
    {.how = waits_as::shutdown, .down = true, .stays = false, .not_killed = false}, // a deadline
    {.how = waits_as::late_shutdown, .down = true, .stays = false, .not_killed = false},
    {.how = waits_as::kill, .down = true, .stays = false, .not_killed = true},
    {.how = waits_as::start, .down = true, .stays = true, .not_killed = true},
};

} // namespace

std::uint64_t stop_waiters::add(waits_as how, told then) {
  all_.push_back({++last_, how, std::move(then)});
  return last_;
}

/// A waiter that is told may wait anew.
void stop_waiters::end(stop_end what, const model::outcome<void>& how) {
  auto ends = [&](const waiter& x) {
    return std::ranges::find(stop_ends, x.how, &row::how)->ends(what);
  };
  auto rest = std::ranges::stable_partition(all_, [&](auto& x) { return !ends(x); });
  auto over = std::vector<waiter>(std::make_move_iterator(rest.begin()),
                                  std::make_move_iterator(rest.end()));
  all_.erase(rest.begin(), rest.end());
  for (auto& x : over)
    x.then(how);
}

stop_waiters::told stop_waiters::take(std::uint64_t which) {
  auto i = std::ranges::find(all_, which, &waiter::id);
  if (i == all_.end())
    return nullptr;
  auto result = std::move(i->then);
  all_.erase(i);
  return result;
}

bool stop_waiters::any(waits_as how) const {
  return std::ranges::find(all_, how, &waiter::how) != all_.end();
}

} // namespace qubes::actors
