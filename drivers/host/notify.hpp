// What the service manager and the daemon tell each other. Without a service manager all of this
// does nothing.
#pragma once

#include "drivers/io/unique_fd.hpp"

#include <chrono>
#include <optional>
#include <string_view>
#include <vector>

namespace qubes::drivers {

/// Each returns whether a service manager was told.
bool notify_ready(std::string_view status);
bool notify_status(std::string_view status);
bool notify_watchdog();
bool notify_stopping(std::string_view status);

/// Asks for more time to start or stop.
bool notify_extend(std::chrono::microseconds more);

/// How often the service manager wants to hear of us at the latest; ping at half of it.
std::optional<std::chrono::microseconds> watchdog_interval();

/// Listening sockets handed over by the service manager (socket activation); the first call takes
/// them.
std::vector<unique_fd> inherited_sockets();

} // namespace qubes::drivers
