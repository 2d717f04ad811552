#include "actors/boards/directory.hpp"

#include <algorithm>

namespace qubes::actors {

std::vector<directory::entry_ptr>::const_iterator directory::place_of(std::string_view name) const {
  return std::ranges::lower_bound(entries_, name, {},
                                  [](auto& x) { return std::string_view{x->name}; });
}

const directory::entry* directory::find(std::string_view name) const {
  auto i = place_of(name);
  return i == entries_.end() || (*i)->name != name ? nullptr : i->get();
}

void directory::put(entry x) {
  drop(x.name);
  auto where = place_of(x.name);
  entries_.insert(where, std::make_shared<const entry>(std::move(x)));
}

void directory::drop(std::string_view name) {
  auto i = place_of(name);
  if (i != entries_.end() && (*i)->name == name)
    entries_.erase(i);
}

} // namespace qubes::actors
