// Tags that tell others by whom a domain is shown, heard and relayed (spec/app.md §9).
#pragma once

#include "model/view.hpp"

namespace qubes::model {

/// Of tags such as `guivm-dom0` the record has one for each of guivm, audiovm and relayvm that
/// names a domain, and no other.
void set_follower_tags(const view& v, domain& x);

/// The same for those properties alone whose domain has no tag yet; true when there were any. What
/// somebody wrote beside the right tag stays.
bool mend_follower_tags(const view& v, domain& x);

} // namespace qubes::model
