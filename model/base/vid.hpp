// What a volume may be called inside of its pool.
#pragma once

#include "model/base/split.hpp"

#include <string_view>

namespace qubes::model {

/// A vid becomes part of a path, which must not leave its pool.
inline bool is_safe_vid(std::string_view vid) {
  if (vid.starts_with('/') || vid.find_first_of("\r\n\t") != std::string_view::npos)
    return false;
  for (auto rest = vid; !rest.empty();)
    if (take_until(rest, '/') == "..")
      return false;
  return true;
}

} // namespace qubes::model
