// What qvmctl leaves on a domain that it makes, until that is whole.
#pragma once

#include <string_view>

namespace qubes::model {

/// A feature: "PURPOSE, by MAKER".
inline constexpr auto unfinished = std::string_view{"qvmctl-unfinished"};

/// PURPOSE, e.g. "clone of work".
constexpr std::string_view purpose_of(std::string_view mark) {
  return mark.substr(0, mark.rfind(", by "));
}

} // namespace qubes::model
