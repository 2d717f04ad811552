#include "actors/api/audit.hpp"

#include "actors/common/log.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

namespace {

constexpr auto longest = std::size_t{80};

/// The beginning of a client's text, in characters that every log takes.
std::string excerpt(std::string_view text) {
  auto result = std::string{text.substr(0, longest)};
  std::ranges::replace_if(
      result, [](unsigned char c) { return c < 0x20 || c >= 0x7F; }, '?');
  return text.size() <= longest ? result : fmt::format("{}... ({} bytes)", result, text.size());
}

std::string value_text(const std::string& payload, visibility how) {
  if (payload.empty())
    return {};
  return how == visibility::secret ? ", value withheld"
                                   : fmt::format(", value \"{}\"", excerpt(payload));
}

} // namespace

audit_entry begin_audit(const call& x, const method& row, const caller& peer) {
  auto& it = x.request;
  return {.domain = x.destination.name,
          .method = it.method,
          .request =
              fmt::format("{}+{} of {} from {} (pid {} uid {}){}", it.method, excerpt(it.argument),
                          x.destination.name.str(), x.source.name.str(), peer.pid, peer.uid,
                          value_text(it.payload, row.value)),
          .began_us = x.in.now_us()};
}

void log_audit(const audit_entry& x, const model::outcome<std::string>& how, std::int64_t now_us) {
  auto took = fmt::format("{:.1f} ms", static_cast<double>(now_us - x.began_us) / 1000);
  auto result = how ? std::string{"ok"}
                    : fmt::format("{}: {}", wire_name(how.error().code), how.error().message());
  log(spdlog::level::info, {.domain = x.domain, .method = x.method},
      fmt::format("{}: {}, {}", x.request, took, result));
}

} // namespace qubes::actors
