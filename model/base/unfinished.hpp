// What qvmctl leaves on a domain that it makes, until that is whole.
#pragma once

#include <string_view>

namespace qubes::model {

/// A feature: "PURPOSE, by MAKER".
inline constexpr auto unfinished = std::string_view{"qvmctl-unfinished"};

inline constexpr auto made_by = std::string_view{", by "};

/// PURPOSE, e.g. "clone of work".
constexpr std::string_view purpose_of(std::string_view mark) {
  return mark.substr(0, mark.rfind(made_by));
}

} // namespace qubes::model
