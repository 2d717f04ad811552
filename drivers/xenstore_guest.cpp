#include "drivers/xenstore_guest.hpp"

#include "model/literal.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string_view>

namespace qubes::drivers {

namespace {

std::string text_at(xenstore& from, const std::string& path) {
  return from.read(path).value_or(std::nullopt).value_or("");
}

template <class T>
std::optional<T> number(std::string_view text) {
  auto result = T{};
  auto end = text.data() + text.size();
  auto [rest, problem] = std::from_chars(text.data(), end, result);
  return problem == std::errc{} && rest == end ? std::optional{result} : std::nullopt;
}

/// `/vm/UUID`, as a domain's entry names its own.
std::string uuid_of(xenstore& from, std::int32_t xid) {
  constexpr auto directory = std::string_view{"/vm/"};
  auto path = text_at(from, fmt::format("/local/domain/{}/vm", xid));
  return path.starts_with(directory)
             ? model::parse_uuid(std::string_view{path}.substr(directory.size())).value_or("")
             : std::string{};
}

} // namespace

void read_guest(xenstore& from, model::guest& into) {
  constexpr auto end_of_time = 1e11; // seconds; year 5138
  auto model = number<std::int32_t>(
      text_at(from, fmt::format("/local/domain/{}/image/device-model-domid", into.xid)));
  if (model && *model > 0) {
    into.stubdom_xid = *model;
    into.stubdom_uuid = uuid_of(from, *model);
  }
  auto began = number<double>(text_at(from, fmt::format("/vm/{}/start_time", into.uuid)));
  if (began && *began > 0 && *began < end_of_time)
    into.started_us = std::llround(*began * 1e6);
}

} // namespace qubes::drivers
