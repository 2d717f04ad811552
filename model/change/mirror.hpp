// Volumes that mirror other facts of the system (spec/vm-classes.md §2).
#pragma once

#include "model/system/view.hpp"

#include <string_view>
#include <vector>

namespace qubes::model {

/// True when a change of this property (of a domain or of the host) shows in volumes.
bool shows_in_volumes(std::string_view property) noexcept;

/// The volumes of `x` after `property` changed: a volume in a linux-kernel pool is named after the
/// domain's kernel, and the origin of a snapshot is the template's volume.
std::vector<volume> mirrored_volumes(const view& v, const domain& x, std::string_view property);

} // namespace qubes::model
