#include "model/follower.hpp"

#include "model/property.hpp"

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

void keep_only(domain& x, std::string_view property, const std::string& wanted) {
  std::erase_if(x.tags, [&](std::string_view tag) {
    return tag.starts_with(property) && tag.substr(property.size()).starts_with('-')
           && tag != wanted;
  });
  if (!wanted.empty())
    x.tags.insert(wanted);
}

} // namespace

void set_follower_tags(const view& v, domain& x) {
  for (auto property : followed)
    if (find_property(row(x.type).bit, property))
      keep_only(x, property, tag_of(v, x, property));
}

bool mend_follower_tags(const view& v, domain& x) {
  auto mended = false;
  for (auto property : followed)
    if (auto tag = tag_of(v, x, property); !tag.empty() && !x.tags.contains(tag)) {
      keep_only(x, property, tag);
      mended = true;
    }
  return mended;
}

} // namespace qubes::model
