// Which characters a screen shows as what they are.
#pragma once

namespace qubes::model {

/// Neither control nor invisible mark, no accent on its own, no script that needs complex or
/// right-to-left rendering, no pictogram: what could disguise text is out.
bool is_displayable(char32_t x) noexcept;

} // namespace qubes::model
