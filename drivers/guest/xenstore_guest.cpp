#include "drivers/guest/xenstore_guest.hpp"

#include "model/base/literal.hpp"

#include <fmt/format.h>
#include <strings.h>

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

template <class Fits>
std::optional<std::int32_t> find_guest(xenstore& from, Fits fits) {
  for (auto& x : from.list("/local/domain").value_or(std::vector<std::string>{}))
    if (auto xid = number<std::int32_t>(x); xid && *xid > 0 && fits(*xid))
      return xid;
  return std::nullopt;
}

} // namespace

std::optional<std::int32_t> find_by_name(xenstore& from, const std::string& name) {
  return find_guest(from, [&](auto xid) {
    return text_at(from, fmt::format("/local/domain/{}/name", xid)) == name;
  });
}

std::optional<std::int32_t> find_by_uuid(xenstore& from, const std::string& uuid) {
  return find_guest(from, [&](auto xid) { return uuid_of(from, xid) == uuid; });
}

std::int32_t backend_of(xenstore& from, std::int32_t xid, const std::string& mac) {
  constexpr auto domains = std::string_view{"/local/domain/"};
  auto interfaces = fmt::format("/libxl/{}/device/vif", xid);
  for (auto& x : from.list(interfaces).value_or(std::vector<std::string>{})) {
    if (::strcasecmp(text_at(from, fmt::format("{}/{}/mac", interfaces, x)).c_str(), mac.c_str())
        != 0)
      continue;
    auto path = text_at(from, fmt::format("{}/{}/backend", interfaces, x));
    auto rest = std::string_view{path};
    if (!rest.starts_with(domains))
      continue;
    rest.remove_prefix(domains.size());
    return number<std::int32_t>(rest.substr(0, rest.find('/'))).value_or(-1);
  }
  return -1;
}

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

std::optional<std::uint64_t> read_number(xenstore* from, const std::string& path) {
  return from ? number<std::uint64_t>(text_at(*from, path)) : std::nullopt;
}

} // namespace qubes::drivers
