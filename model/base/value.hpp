// The value of a property, and its text on the wire, in qubes.xml and in events.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

namespace qubes::model {

/// "None": a property that is set to nothing, e.g. no netvm.
using none = std::monostate;

/// Domains and labels are held by name.
using value = std::variant<none, bool, std::int64_t, std::string>;

/// None is empty, booleans are `True` and `False` (spec/properties.md §1).
std::string to_text(const value& x);

/// As `to_text`, but None is spelt out (spec/admin-api.md A6).
std::string to_event_text(const value& x);

/// False, 0, "" and None are not truthy.
bool truthy(const value& x) noexcept;

} // namespace qubes::model
