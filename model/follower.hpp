// Tags that tell others by whom a domain is shown, heard and relayed (spec/app.md §9).
#pragma once

#include "model/view.hpp"

#include <string>
#include <vector>

namespace qubes::model {

/// Tags such as `guivm-dom0` that the domain should have and has not: one for each of guivm,
/// audiovm and relayvm that names a domain and is not told by any tag yet.
std::vector<std::string> missing_follower_tags(const view& v, const domain& x);

} // namespace qubes::model
