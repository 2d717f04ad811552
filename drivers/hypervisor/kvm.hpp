// Whether guests really run by KVM. A kernel that is a guest itself may offer it and fail.
#pragma once

#include "model/base/error.hpp"

#include <string>

namespace qubes::drivers {

/// Makes a machine with one processor and lets go of it; may wait for the kernel. `node`: usually
/// /dev/kvm. Refuses with what does not work.
model::outcome<void> try_kvm(const std::string& node);

} // namespace qubes::drivers
