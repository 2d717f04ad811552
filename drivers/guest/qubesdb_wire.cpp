#include "drivers/guest/qubesdb_wire.hpp"

#include <fmt/format.h>

#include <cstring>

namespace qubes::drivers::qubesdb {

namespace {

/// As on the wire; numbers in the machine's own order.
struct header {
  std::uint8_t kind;
  char path[path_limit + 1];
  char unused[3];
  std::uint32_t size;
};
static_assert(sizeof(header) == head_size);

} // namespace

model::outcome<heading> parse_heading(std::string_view bytes) {
  auto head = header{};
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.size > value_limit)
    return model::fail(model::errc::general,
                       fmt::format("it announced a value of {} bytes", head.size));
  return heading{head.kind, {head.path, ::strnlen(head.path, path_limit)}, head.size};
}

model::outcome<std::optional<message>> take_message(std::string_view& from) {
  if (from.size() < head_size)
    return std::nullopt;
  return parse_heading(from).map([&](heading x) -> std::optional<message> {
    if (from.size() - head_size < x.size)
      return std::nullopt;
    auto data = std::string{from.substr(head_size, x.size)};
    from.remove_prefix(head_size + x.size);
    return message{x.kind, std::move(x.path), std::move(data)};
  });
}

std::string bytes_of(const message& x) {
  auto head = header{};
  head.kind = x.kind;
  x.path.copy(head.path, path_limit);
  head.size = static_cast<std::uint32_t>(x.data.size());
  auto bytes = std::string(sizeof head, '\0');
  std::memcpy(bytes.data(), &head, sizeof head);
  return bytes + x.data;
}

} // namespace qubes::drivers::qubesdb
