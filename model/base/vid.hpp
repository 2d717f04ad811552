// What a volume may be called inside of its pool.
#pragma once

#include <algorithm>
#include <string_view>

namespace qubes::model {

/// A vid becomes part of a path, which must not leave its pool.
inline bool is_safe_vid(std::string_view vid) {
  if (vid.starts_with('/') || vid.find_first_of("\r\n\t") != std::string_view::npos)
    return false;
  for (auto rest = vid; !rest.empty();) {
    auto end = std::min(rest.find('/'), rest.size());
    if (rest.substr(0, end) == "..")
      return false;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return true;
}

} // namespace qubes::model
