// Values the owner hands to programs in a domain (spec/features.md §4).
#include "model/guest/extensions/all.hpp"
#include "model/property/feature_rules.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

constexpr auto prefix = std::string_view{"vm-config."};

constexpr auto folder = std::string_view{"/vm-config/"};

/// A key that older versions accepted and QubesDB does not is left out.
outcome<void> at_start(const guest_start& x, qubesdb_edits& to) {
  for (auto& [name, text] : x.who.features)
    if (name.starts_with(prefix) && check_feature(x.v, x.who, name, text))
      put(to, fmt::format("{}{}", folder, std::string_view{name}.substr(prefix.size())), text);
  return {};
}

void when_changed(const transition& x, notices& to) {
  tell_features(x, prefix, folder, to);
}

} // namespace

const extension vm_config{"vm-config", nullptr, nullptr, at_start, nullptr, when_changed};

} // namespace qubes::model
