// Whether a system that others have written may take the place of the present one.
#pragma once

#include "model/base/error.hpp"
#include "model/system/view.hpp"

namespace qubes::model {

/// Refused (errc::store) when it would leave a living guest without its record or with other disks
/// than it has, or has lost all pools or all domains: such a file is damaged, whatever it says.
outcome<void> may_follow(const view& present, const system& written);

} // namespace qubes::model
