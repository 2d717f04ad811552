#include "model/follower.hpp"

#include "model/property.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace qubes::model {

constexpr auto followed = std::array{"guivm", "audiovm", "relayvm"};

tags follower_tags(const view& v, const domain& x) {
  auto result = tags{};
  for (auto property : followed)
    if (find_property(row(x.type).bit, property))
      if (auto target = read_domain({v, &x}, property))
        result.insert(fmt::format("{}-{}", property, target->name.str()));
  return result;
}

bool is_follower_tag(const domain& x, std::string_view tag) {
  return std::ranges::any_of(followed, [&](std::string_view property) {
    return tag.size() > property.size() && tag.starts_with(property) && tag[property.size()] == '-'
           && find_property(row(x.type).bit, property);
  });
}

bool set_follower_tags(const view& v, domain& x) {
  auto wanted = follower_tags(v, x);
  auto before = x.tags;
  std::erase_if(x.tags,
                [&](auto& tag) { return is_follower_tag(x, tag) && !wanted.contains(tag); });
  x.tags.merge(wanted);
  return x.tags != before;
}

std::vector<std::string> missing_follower_tags(const view& v, const domain& x) {
  auto result = std::vector<std::string>{};
  for (auto property : {"guivm", "audiovm", "relayvm"}) {
    auto prefix = std::string{property} + '-';
    auto place = x.tags.lower_bound(prefix);
    if (place != x.tags.end() && place->starts_with(prefix))
      continue;
    if (auto target = read_domain({v, &x}, property))
      result.push_back(prefix + target->name.str());
  }
  return result;
}

} // namespace qubes::model
