// What an assignment of a device may say, wherever it comes from: a request, a file, a copy.
#pragma once

#include "model/domain.hpp"
#include "model/error.hpp"
#include "model/view.hpp"

#include <string_view>

namespace qubes::model {

/// A port becomes part of a path and, like an identity, of a line of the Admin API: printable,
/// without blanks, quotes, slashes and the '+' that separates it there. Never empty.
bool is_device_text(std::string_view text);

/// A name before `='VALUE'` in such a line.
bool is_device_key(std::string_view text);

/// Refuses what could not be written down again or could never be attached: names, options, a
/// backend that has no such devices, a front-end name that another disk has at the start. The owner
/// may have the assignment already.
outcome<void> check_assignment(const view& v, const domain& owner, std::string_view kind,
                               const assignment& x);

} // namespace qubes::model
