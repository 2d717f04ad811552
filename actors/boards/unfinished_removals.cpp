#include "actors/boards/unfinished_removals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace qubes::actors {

void unfinished_removals::note(const model::domain_ptr& who) {
  auto guard = std::lock_guard{mutex_};
  by_uuid_.insert_or_assign(who->uuid, who);
}

void unfinished_removals::end(const std::string& uuid) {
  auto guard = std::lock_guard{mutex_};
  by_uuid_.erase(uuid);
}

model::domain_ptr unfinished_removals::find(const std::string& uuid) const {
  auto guard = std::lock_guard{mutex_};
  auto i = by_uuid_.find(uuid);
  return i == by_uuid_.end() ? nullptr : i->second;
}

model::domain_ptr unfinished_removals::former(const model::domain& x) const {
  auto guard = std::lock_guard{mutex_};
  auto i = std::ranges::find_if(
      by_uuid_, [&](auto& y) { return y.second->name == x.name && y.second->uuid != x.uuid; });
  return i == by_uuid_.end() ? nullptr : i->second;
}

std::vector<std::string> unfinished_removals::in_pool(std::string_view name) const {
  auto guard = std::lock_guard{mutex_};
  auto result = std::vector<std::string>{};
  for (auto& [uuid, x] : by_uuid_)
    for (auto& it : x->volumes)
      if (it.pool == name)
        result.push_back(fmt::format("{}:{}", x->name.str(), it.name));
  return result;
}

void unfinished_removals::tell_all_known() {
  auto waiting = [&] {
    auto guard = std::lock_guard{mutex_};
    known_ = true;
    return std::exchange(waiting_, {});
  }();
  for (auto& told : waiting)
    told();
}

void unfinished_removals::when_known(std::function<void()> told) {
  {
    auto guard = std::lock_guard{mutex_};
    if (!known_)
      return waiting_.push_back(std::move(told));
  }
  told();
}

} // namespace qubes::actors
