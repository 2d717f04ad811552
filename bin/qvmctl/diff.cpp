#include "bin/qvmctl/diff.hpp"

#include "bin/qvmctl/answers.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace qubes::ctl {

namespace {

constexpr auto around = std::size_t{3};

struct line {
  char mark; ///< ' ' for common
  std::string_view text;
};

/// All lines of both, along a longest common subsequence.
std::vector<line> align(const std::vector<std::string_view>& a,
                        const std::vector<std::string_view>& b) {
  auto width = b.size() + 1;
  auto common = std::vector<std::size_t>((a.size() + 1) * width); // of the rests
  for (auto i = a.size(); i-- > 0;)
    for (auto j = b.size(); j-- > 0;)
      common[i * width + j] =
          a[i] == b[j] ? common[(i + 1) * width + j + 1] + 1
                       : std::max(common[(i + 1) * width + j], common[i * width + j + 1]);
  auto result = std::vector<line>{};
  auto i = std::size_t{0};
  auto j = std::size_t{0};
  while (i < a.size() || j < b.size()) {
    if (i < a.size() && j < b.size() && a[i] == b[j]) {
      result.push_back({' ', a[i++]});
      ++j;
    } else if (j == b.size()
               || (i < a.size() && common[(i + 1) * width + j] >= common[i * width + j + 1])) {
      result.push_back({'-', a[i++]});
    } else {
      result.push_back({'+', b[j++]});
    }
  }
  return result;
}

} // namespace

std::string line_diff(std::string_view before, std::string_view after) {
  auto all = align(split(before, '\n'), split(after, '\n'));
  auto shown = std::vector<bool>(all.size());
  for (auto i = std::size_t{0}; i < all.size(); ++i)
    if (all[i].mark != ' ')
      for (auto j = i - std::min(i, around); j < std::min(i + around + 1, all.size()); ++j)
        shown[j] = true;
  auto result = std::string{};
  for (auto i = std::size_t{0}; i < all.size(); ++i) {
    if (!shown[i])
      continue;
    if (i > 0 && !shown[i - 1] && !result.empty())
      result += "...\n";
    result += all[i].mark;
    result += all[i].text;
    result += '\n';
  }
  return result;
}

} // namespace qubes::ctl
