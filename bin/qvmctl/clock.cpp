#include "bin/qvmctl/clock.hpp"

#include <fmt/format.h>

#include <ctime>
#include <string_view>

namespace qubes::ctl {

std::string clock_text(bool utc) {
  auto now = timespec{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  auto parts = tm{};
  utc ? ::gmtime_r(&now.tv_sec, &parts) : ::localtime_r(&now.tv_sec, &parts);
  char text[32];
  auto size =
      std::strftime(text, sizeof(text), utc ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &parts);
  return fmt::format("{}.{:03}{}", std::string_view{text, size}, now.tv_nsec / 1'000'000,
                     utc ? "Z" : "");
}

} // namespace qubes::ctl
