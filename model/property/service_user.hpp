// The user that programs in a domain run as.
#pragma once

#include "model/system/view.hpp"

#include <string>

namespace qubes::model {

/// The user when a call names none: that of the domain's boot mode, or its default_user.
std::string service_user(const view& v, const domain& x);

} // namespace qubes::model
