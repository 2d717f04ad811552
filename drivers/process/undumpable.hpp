// While we hold secrets, neither a core file nor a debugger of the same user gets at our memory.
#pragma once

#include <memory>

namespace qubes::drivers {

/// The process is not dumpable as long as one of these is held.
std::shared_ptr<void> stay_undumpable();

} // namespace qubes::drivers
