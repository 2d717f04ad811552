#include "model/system/domain.hpp"

#include <algorithm>

namespace qubes::model {

const std::string* features::find(std::string_view name) const noexcept {
  for (auto& [key, text] : entries_)
    if (key == name)
      return &text;
  return nullptr;
}

void features::set(std::string_view name, std::string text, std::size_t at) {
  for (auto& [key, old] : entries_)
    if (key == name) {
      old = std::move(text);
      return;
    }
  auto place = entries_.begin() + static_cast<std::ptrdiff_t>(std::min(at, entries_.size()));
  entries_.emplace(place, std::string{name}, std::move(text));
}

std::optional<std::size_t> features::remove(std::string_view name) {
  auto found = std::find_if(entries_.begin(), entries_.end(),
                            [&](const entry& x) { return x.first == name; });
  if (found == entries_.end())
    return std::nullopt;
  auto place = static_cast<std::size_t>(found - entries_.begin());
  entries_.erase(found);
  return place;
}

bool domain::has_pci() const noexcept {
  return std::any_of(devices.begin(), devices.end(), [](const device_class& x) {
    return x.name == "pci" && !x.assignments.empty();
  });
}

const std::vector<assignment>& assigned(const domain& x, std::string_view kind) {
  static const auto none_of_them = std::vector<assignment>{};
  auto found = std::ranges::find(x.devices, kind, &device_class::name);
  return found == x.devices.end() ? none_of_them : found->assignments;
}

} // namespace qubes::model
