// Log lines that carry their domain, method and incarnation as fields of their own.
#pragma once

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

namespace qubes::actors {

/// Between the text and each field; the sink shows fields its own way (bin/qvmd/log.hpp).
inline constexpr char field_mark = '\x1f';

struct log_fields {
  std::string_view domain;
  std::string_view method;
  std::uint64_t incarnation = 0; ///< 0 for none
};

inline void log(spdlog::level::level_enum level, const log_fields& of, std::string text) {
  if (!spdlog::should_log(level))
    return;
  // A client's text must forge neither a line nor a field.
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  auto add = [&](std::string_view key, std::string_view value) {
    if (!value.empty())
      text += fmt::format("{}{}={}", field_mark, key, value);
  };
  add("domain", of.domain);
  add("method", of.method);
  if (of.incarnation != 0)
    add("incarnation", std::to_string(of.incarnation));
  spdlog::log(level, "{}", text);
}

} // namespace qubes::actors
