#include "model/property/feature.hpp"

#include "model/property/graph.hpp"

namespace qubes::model {

namespace {

using step = const domain* (*)(const view&, const domain&);

/// Follows `next` from `x`, itself included; as many steps as there are domains end a loop.
const std::string* find_along(const view& v, const domain& x, std::string_view name, step next) {
  auto left = v.system.domains.size();
  for (auto at = &x; at && left-- > 0; at = next(v, *at))
    if (auto found = at->features.find(name))
      return found;
  return nullptr;
}

const std::string* find_in_dom0(const view& v, std::string_view name) {
  auto dom0 = v.system.find("dom0");
  return dom0 ? dom0->features.find(name) : nullptr;
}

} // namespace

const std::string* find_feature(const view& v, const domain& x, std::string_view name, chain how) {
  auto found = [&] {
    switch (how) {
    case chain::with_template:
    case chain::with_template_and_adminvm: return find_along(v, x, name, template_of);
    case chain::with_netvm: return find_along(v, x, name, netvm_of);
    default: return x.features.find(name);
    }
  }();
  auto ask_dom0 = how == chain::with_adminvm || how == chain::with_template_and_adminvm;
  return found || !ask_dom0 ? found : find_in_dom0(v, name);
}

bool has_feature(const view& v, const domain& x, std::string_view name, chain how, bool fallback) {
  auto found = find_feature(v, x, name, how);
  return found ? !found->empty() : fallback;
}

} // namespace qubes::model
