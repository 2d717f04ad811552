// Connections to other services of this host.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <chrono>
#include <string>

namespace qubes::drivers {

/// A connected stream socket; the error says why there is none (errc::timed_out: not
/// within `limit`). `limit` also bounds each sending
/// on it that waits: a full backlog or buffer would hold us forever.
model::outcome<unique_fd> connect_to(const std::string& path, std::chrono::milliseconds limit);

} // namespace qubes::drivers
