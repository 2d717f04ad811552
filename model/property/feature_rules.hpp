// Values that features with a meaning to the host may have (spec/features.md §3, §4,
// spec/vm-classes.md §7). Other features take any text.
#pragma once

#include "model/system/view.hpp"

#include <string_view>
#include <vector>

namespace qubes::model {

/// What the value is by itself, however it was set or came into the file.
outcome<void> check_feature_text(const domain& owner, std::string_view name, std::string_view text);

/// Refuses a value before it is stored, also for what the domain lacks now; the stock daemon keeps
/// some bad ones.
outcome<void> check_feature(const view& v, const domain& owner, std::string_view name,
                            std::string_view text);

/// Names that have a rule; prefixes end with a dot.
std::vector<std::string_view> ruled_features();

} // namespace qubes::model
