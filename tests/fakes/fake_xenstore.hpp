// A XenStore of memory, as strict as the real one.
#pragma once

#include "drivers/guest/xenstore.hpp"

#include <memory>

namespace qubes::drivers {

std::unique_ptr<xenstore> make_fake_xenstore();

} // namespace qubes::drivers
