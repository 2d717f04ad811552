#include "actors/boards/content_uses.hpp"

#include <map>
#include <mutex>
#include <vector>

namespace qubes::actors {

struct content_uses::core {
  struct entry {
    std::size_t readers = 0;
    bool changes = false;
    std::vector<std::function<void()>> waiting{};
  };

  void give_back(const place& what, use how) {
    auto waiting = [&] {
      auto guard = std::lock_guard{mutex};
      auto i = entries.find(what);
      if (how == use::read)
        --i->second.readers;
      else
        i->second.changes = false;
      if (i->second.readers > 0 || i->second.changes)
        return std::vector<std::function<void()>>{};
      return std::move(entries.extract(i).mapped().waiting);
    }();
    for (auto& told : waiting)
      told();
  }

  std::mutex mutex;
  std::map<place, entry> entries; ///< of what is held
  std::multimap<std::pair<place, std::string>, hold> exports;
};

content_uses::content_uses() : core_(std::make_shared<core>()) {}

content_uses::hold content_uses::take(const place& what, use how) {
  auto guard = std::lock_guard{core_->mutex};
  auto found = core_->entries.find(what);
  auto held = found != core_->entries.end();
  if (held && (found->second.changes || how == use::change))
    return nullptr;
  auto& x = core_->entries[what];
  if (how == use::read)
    ++x.readers;
  else
    x.changes = true;
  auto* mark = static_cast<void*>(core_.get()); // what a hold points to says only that there is one
  return {mark, [owner = std::weak_ptr{core_}, what, how](void*) {
            if (auto still = owner.lock())
              still->give_back(what, how);
          }};
}

void content_uses::when_free(const place& what, std::function<void()> told) {
  {
    auto guard = std::lock_guard{core_->mutex};
    if (auto i = core_->entries.find(what); i != core_->entries.end())
      return i->second.waiting.push_back(std::move(told));
  }
  told();
}

void content_uses::keep(const place& what, const std::string& path, hold x) {
  auto guard = std::lock_guard{core_->mutex};
  core_->exports.emplace(std::pair{what, path}, std::move(x));
}

void content_uses::drop(const place& what, const std::string& path) {
  auto last = hold{}; // goes when nothing is locked any more
  auto guard = std::lock_guard{core_->mutex};
  if (auto i = core_->exports.find(std::pair{what, path}); i != core_->exports.end())
    last = std::move(core_->exports.extract(i).mapped());
}

} // namespace qubes::actors
