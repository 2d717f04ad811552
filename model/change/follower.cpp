#include "model/change/follower.hpp"

#include "model/property/property.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace qubes::model {

namespace {

constexpr auto followed = std::array<std::string_view, 3>{"guivm", "audiovm", "relayvm"};

/// The domain's tag for that property, "" for none.
std::string tag_of(const view& v, const domain& x, std::string_view property) {
  auto known = find_property(row(x.type).bit, property);
  auto target = known ? read_domain({v, &x}, property) : nullptr;
  return target ? fmt::format("{}-{}", property, target->name.str()) : std::string{};
}

} // namespace

std::string_view followed_property(std::string_view changed) noexcept {
  constexpr auto of_host = std::string_view{"default_"};
  if (changed.starts_with(of_host))
    changed.remove_prefix(of_host.size());
  auto found = std::ranges::find(followed, changed);
  return found == followed.end() ? std::string_view{} : *found;
}

tags tags_that_follow(const view& v, const domain& x, std::string_view property) {
  auto result = x.tags;
  if (!find_property(row(x.type).bit, property))
    return result;
  std::erase_if(result, [&](std::string_view tag) {
    return tag.starts_with(property) && tag.substr(property.size()).starts_with('-');
  });
  if (auto tag = tag_of(v, x, property); !tag.empty())
    result.insert(std::move(tag));
  return result;
}

void set_follower_tags(const view& v, domain& x) {
  for (auto property : followed)
    x.tags = tags_that_follow(v, x, property);
}

std::string_view followed_by(const view& v, const domain& x, std::string_view tag) {
  auto found =
      std::ranges::find_if(followed, [&](auto property) { return tag_of(v, x, property) == tag; });
  return found == followed.end() ? std::string_view{} : *found;
}

bool mend_follower_tags(const view& v, domain& x) {
  auto mended = false;
  for (auto property : followed)
    if (auto tag = tag_of(v, x, property); !tag.empty() && !x.tags.contains(tag)) {
      x.tags = tags_that_follow(v, x, property);
      mended = true;
    }
  return mended;
}

} // namespace qubes::model
