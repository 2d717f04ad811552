#include "drivers/host/notify.hpp"

#include <systemd/sd-daemon.h>

#include <fmt/format.h>

#include <algorithm>
#include <string>

namespace qubes::drivers {

namespace {

/// One line: a status must not smuggle in further assignments.
std::string one_line(std::string_view text) {
  auto line = std::string{text};
  std::ranges::replace(line, '\n', ' ');
  return line;
}

bool tell(const std::string& text) {
  return ::sd_notify(0, text.c_str()) > 0;
}

} // namespace

bool notify_ready(std::string_view status) {
  return tell(fmt::format("READY=1\nSTATUS={}\n", one_line(status)));
}

bool notify_status(std::string_view status) {
  return tell(fmt::format("STATUS={}\n", one_line(status)));
}

bool notify_watchdog() {
  return tell("WATCHDOG=1\n");
}

bool notify_stopping(std::string_view status) {
  return tell(fmt::format("STOPPING=1\nSTATUS={}\n", one_line(status)));
}

bool notify_extend(std::chrono::microseconds more) {
  return tell(fmt::format("EXTEND_TIMEOUT_USEC={}\n", more.count()));
}

std::optional<std::chrono::microseconds> watchdog_interval() {
  auto interval = std::uint64_t{0};
  if (::sd_watchdog_enabled(0, &interval) <= 0)
    return std::nullopt;
  return std::chrono::microseconds{interval};
}

std::vector<unique_fd> inherited_sockets() {
  auto sockets = std::vector<unique_fd>{};
  const auto count = ::sd_listen_fds(1);
  for (auto i = 0; i < count; ++i)
    sockets.emplace_back(SD_LISTEN_FDS_START + i);
  return sockets;
}

} // namespace qubes::drivers
