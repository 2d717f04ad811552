// Elements of qubes.xml that this version does not know: they are kept as text.
#pragma once

#include <string_view>

namespace qubes::model {

/// True for the text `<LIST><...name="NAME"...></LIST>`.
bool is_entry(std::string_view text, std::string_view list, std::string_view name);

/// True for the text `<TAG name="NAME"...>...</TAG>`.
bool is_named(std::string_view text, std::string_view tag, std::string_view name);

} // namespace qubes::model
