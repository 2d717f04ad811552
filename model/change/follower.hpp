// Tags that tell which domains show, play and relay a domain (spec/app.md §9).
#pragma once

#include "model/system/view.hpp"

#include <string_view>

namespace qubes::model {

/// The one of guivm, audiovm and relayvm that may change for a domain when `changed` (of a domain
/// or of the host) does; "" for none.
std::string_view followed_property(std::string_view changed) noexcept;

/// The record's tags, where of those that begin with `property` only the one stays or comes that
/// names the domain it uses, e.g. `guivm-dom0`.
tags tags_that_follow(const view& v, const domain& x, std::string_view property);

/// Does this for each of guivm, audiovm, relayvm.
void set_follower_tags(const view& v, domain& x);

/// The property because of which the domain has this tag; "" for none.
std::string_view followed_by(const view& v, const domain& x, std::string_view tag);

/// Only for properties whose tag is missing; true when there were any. A tag that was written
/// beside the right one stays.
bool mend_follower_tags(const view& v, domain& x);

} // namespace qubes::model
