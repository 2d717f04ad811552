// What of a domain's root survives its end (spec/features.md §4).
#include "model/guest/extensions/all.hpp"
#include "model/property/feature_rules.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

constexpr auto prefix = std::string_view{"custom-persist."};

constexpr auto folder = std::string_view{"/persist/"};

/// Refused rather than left out: the domain would lose what its owner wanted to keep.
outcome<void> at_start(const guest_start& x, qubesdb_edits& to) {
  for (auto& [name, text] : x.who.features) {
    if (!name.starts_with(prefix))
      continue;
    if (auto sound = check_feature(x.v, x.who, name, text); !sound)
      return sound;
    put(to, fmt::format("{}{}", folder, std::string_view{name}.substr(prefix.size())), text);
  }
  return {};
}

void when_changed(const transition& x, notices& to) {
  tell_features(x, prefix, folder, to);
}

} // namespace

const extension custom_persist{"custom-persist", nullptr, nullptr, at_start, nullptr, when_changed};

} // namespace qubes::model
