#include "bin/qvmctl/live_page.hpp"

#include "model/base/split.hpp"

#include <algorithm>

namespace qubes::ctl {

namespace {

constexpr auto plain_again = std::string_view{"\x1b[0m"};

/// The sequence that paints, at the beginning of a text; "" where there is none.
std::string_view paint_at(std::string_view text) {
  return text.starts_with("\x1b[") ? text.substr(0, text.find('m') + 1) : std::string_view{};
}

/// A character, whatever bytes it has.
std::string_view character_at(std::string_view text) {
  auto end = std::size_t{1};
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U)
    ++end;
  return text.substr(0, end);
}

} // namespace

std::string cut_painted(std::string_view text, std::size_t columns) {
  auto result = std::string{};
  auto painted = false;
  for (auto taken = std::size_t{0}; !text.empty();) {
    auto paint = paint_at(text);
    painted = painted || !paint.empty();
    if (paint.empty() && taken++ == columns)
      return painted ? result.append(plain_again) : result;
    auto next = paint.empty() ? character_at(text) : paint;
    result += next;
    text.remove_prefix(next.size());
  }
  return result;
}

void live_page::draw(std::string_view page) {
  on_ = screen::detect();
  auto lines = std::vector<std::string>{};
  const auto room = std::max<std::size_t>(on_.rows, 2) - 1;
  while (!page.empty() && lines.size() < room)
    lines.push_back(cut_painted(model::take_until(page, '\n'), on_.columns));
  area_.draw(std::move(lines));
}

} // namespace qubes::ctl
