#include "model/follower.hpp"

#include "model/property.hpp"

namespace qubes::model {

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
