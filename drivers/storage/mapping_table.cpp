#include "drivers/storage/mapping_table.hpp"

#include "model/base/split.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::drivers::storage {

namespace {

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

} // namespace

std::optional<std::string> resized_table(std::string_view table, std::uint64_t bytes) {
  constexpr auto sector = std::uint64_t{512};
  auto rest = table.substr(0, table.find('\n'));
  auto in_one_piece = table.size() - rest.size() <= 1;
  auto start = model::take_until(rest, ' ');
  auto length = model::take_until(rest, ' ');
  if (!in_one_piece || !is_number(start) || !is_number(length) || rest.empty())
    return std::nullopt;
  return fmt::format("{} {} {}", start, bytes / sector, rest);
}

} // namespace qubes::drivers::storage
