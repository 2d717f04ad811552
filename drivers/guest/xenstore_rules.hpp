// What XenStore takes as a path and a value; the real one and the fake refuse the same.
#pragma once

#include "drivers/guest/xenstore.hpp"
#include "model/base/characters.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::drivers {

inline constexpr std::size_t xs_longest_path = 3072;
inline constexpr std::size_t xs_longest_message = 4096; ///< a path, its end and a value
inline constexpr int xs_most_attempts = 16;             ///< of a transaction others keep breaking

/// "/", or names separated by single slashes.
inline model::outcome<void> check_xs_path(std::string_view path) {
  auto allowed = [](char c) {
    return model::is_alphanumeric(c) || std::string_view{"-_@/"}.find(c) != std::string_view::npos;
  };
  if (path.starts_with('/') && path.size() <= xs_longest_path
      && (path.size() == 1 || !path.ends_with('/')) && path.find("//") == std::string_view::npos
      && std::ranges::all_of(path, allowed))
    return {};
  return model::fail(model::errc::value,
                     fmt::format("'{}' is not a XenStore path", path.substr(0, 200)),
                     "it starts with '/', has letters, digits and -_@ between single slashes, and "
                     "at most 3072 of them");
}

/// Also the events that are no path, such as "@releaseDomain".
inline model::outcome<void> check_xs_watch(std::string_view path) {
  return path.starts_with('@') ? model::outcome<void>{} : check_xs_path(path);
}

inline model::outcome<void> check_xs_entry(std::string_view path, std::string_view text) {
  if (path.size() + 1 + text.size() <= xs_longest_message)
    return check_xs_path(path);
  return model::fail(model::errc::value,
                     fmt::format("the value for '{}' has {} bytes; XenStore takes at most {} there",
                                 path.substr(0, 200), text.size(),
                                 xs_longest_message - std::min(xs_longest_path, path.size()) - 1));
}

/// The first permission names the owner, so there is one.
inline model::outcome<void> check_xs_permissions(std::string_view path,
                                                 const std::vector<xs_permission>& x) {
  return x.empty() ? model::fail(model::errc::value,
                                 fmt::format("the permissions of '{}' name no owner", path))
                   : check_xs_path(path);
}

inline model::error xs_error(std::string_view what, std::string_view path, std::string_view why) {
  return {model::errc::hypervisor, fmt::format("cannot {} '{}' in XenStore: {}", what, path, why),
          ""};
}

inline model::error xs_too_busy() {
  return {model::errc::hypervisor,
          fmt::format("a XenStore transaction gave way to others {} times; nothing was changed",
                      xs_most_attempts),
          "try again"};
}

} // namespace qubes::drivers
