#include "drivers/storage/mapping_table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::drivers::storage {

namespace {

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

std::string_view take_word(std::string_view& from) {
  auto end = std::min(from.find(' '), from.size());
  auto result = from.substr(0, end);
  from.remove_prefix(std::min(end + 1, from.size()));
  return result;
}

} // namespace

std::optional<std::string> resized_table(std::string_view table, std::uint64_t bytes) {
  constexpr auto sector = std::uint64_t{512};
  auto rest = table.substr(0, table.find('\n'));
  auto in_one_piece = table.size() - rest.size() <= 1;
  auto start = take_word(rest);
  auto length = take_word(rest);
  if (!in_one_piece || !is_number(start) || !is_number(length) || rest.empty())
    return std::nullopt;
  return fmt::format("{} {} {}", start, bytes / sector, rest);
}

} // namespace qubes::drivers::storage
