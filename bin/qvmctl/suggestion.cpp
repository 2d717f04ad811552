#include "bin/qvmctl/suggestion.hpp"

#include "model/base/literal.hpp"
#include "model/base/name.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::ctl {

namespace {

bool same_but_for_case(std::string_view a, std::string_view b) {
  return model::lower_case(a) == model::lower_case(b);
}

/// The slip of fast fingers.
bool has_two_letters_exchanged(std::string_view a, std::string_view b) {
  if (a.size() != b.size())
    return false;
  auto at = static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
  return at + 1 < a.size() && a[at] == b[at + 1] && a[at + 1] == b[at]
         && a.substr(at + 2) == b.substr(at + 2);
}

bool is_begun(std::string_view text, std::string_view word) {
  return !text.empty() && word.starts_with(text);
}

} // namespace

std::string likely(std::string_view text, const std::vector<std::string>& known) {
  for (auto fits : {same_but_for_case, has_two_letters_exchanged, is_begun}) {
    auto found = std::ranges::find_if(known, [&](auto& x) { return fits(text, x); });
    if (found != known.end())
      return *found;
  }
  return model::nearest(text, known);
}

std::string did_you_mean(std::string_view text, const std::vector<std::string>& known) {
  auto near = likely(text, known);
  return near.empty() ? "" : fmt::format("did you mean '{}'?", near);
}

std::string one_of(std::string_view text, const std::vector<std::string>& known) {
  if (auto hint = did_you_mean(text, known); !hint.empty())
    return hint;
  return known.empty() ? "there is none" : fmt::format("one of: {}", fmt::join(known, ", "));
}

} // namespace qubes::ctl
