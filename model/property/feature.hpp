// Looking features up through template, netvm and dom0 (spec/features.md §1).
#pragma once

#include "model/system/view.hpp"

#include <string>
#include <string_view>

namespace qubes::model {

/// The first domain of the chain that has the key wins, even with "".
enum class chain : std::uint8_t {
  own,
  with_template,
  with_netvm,
  with_adminvm,
  with_template_and_adminvm
};

/// Null when no domain of the chain has it. Loops end the chain.
const std::string* find_feature(const view& v, const domain& x, std::string_view name, chain how);

/// As `find_feature`, absent counts as `fallback`; truthy is non-empty.
bool has_feature(const view& v, const domain& x, std::string_view name, chain how,
                 bool fallback = false);

} // namespace qubes::model
