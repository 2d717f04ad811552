// Values that features with a meaning to the host may have (spec/features.md §3, §4,
// spec/vm-classes.md §7). Other features take any text.
#pragma once

#include "model/view.hpp"

#include <string_view>

namespace qubes::model {

/// Refuses a value before it is stored; the stock daemon keeps some bad ones.
outcome<void> check_feature(const view& v, const domain& owner, std::string_view name,
                            std::string_view text);

} // namespace qubes::model
