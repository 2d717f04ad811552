// A listing that follows what happens.
#pragma once

#include "bin/qvmctl/commands.hpp"

#include <functional>

namespace qubes::ctl {

using listing_maker = std::function<expected<output_table>()>;

/// Makes the listing anew when something happens, until an interrupt. Drawn over itself on a
/// terminal; elsewhere the whole first, then the rows that come and go. JSON is always whole.
exit_code watch_listing(session& s, const listing_maker& make);

} // namespace qubes::ctl
