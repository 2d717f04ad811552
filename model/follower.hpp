// Tags that tell others by whom a domain is shown, heard and relayed (spec/app.md §9).
#pragma once

#include "model/view.hpp"

#include <string>
#include <vector>

namespace qubes::model {

/// Tags such as `guivm-dom0` that the domain should have and has not: one for each of guivm,
/// audiovm and relayvm that names a domain and is not told by any tag yet.
tags follower_tags(const view& v, const domain& x);

/// A tag that only follows a property of the domain.
bool is_follower_tag(const domain& x, std::string_view tag);

/// Makes the record have `follower_tags` and no other of their kind; true when it had others.
bool set_follower_tags(const view& v, domain& x);

/// Of those, which a new domain is given: where it took one over, that stays.
std::vector<std::string> missing_follower_tags(const view& v, const domain& x);

} // namespace qubes::model
