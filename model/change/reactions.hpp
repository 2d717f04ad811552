// What follows from a property that is set or reset: values announced anew on the domain itself
// and on others, tags and features that follow (spec/events.md §2.2, spec/properties.tsv).
#pragma once

#include "model/change/draft.hpp"

#include <string_view>

namespace qubes::model {

/// A property got another value, or the same one again.
struct turn {
  const domain* owner; ///< null for the host
  std::string_view name;
  maybe_value old;  ///< as it was read, default included
  maybe_value next; ///< as it will be read
};

/// Adds what happens between `property-pre-set` and `property-set`, which it tells of itself.
void react_to_set(draft& to, const turn& x);

/// Adds what happens between `property-pre-del` and `property-reset`.
void react_to_reset(draft& to, const turn& x);

/// Domains of classes that have the property and never chose a value.
std::vector<const domain*> at_default(const view& v, std::string_view property);

/// The boot mode of what is based on this template is another one now.
void announce_bootmodes(draft& to, const domain& owner);

} // namespace qubes::model
