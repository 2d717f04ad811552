// What the toolstack writes down about a guest, and libvirt does not tell
// (spec/qubesdb-entries.md §6).
#pragma once

#include "drivers/xenstore.hpp"
#include "model/guest.hpp"

namespace qubes::drivers {

/// Adds its stub domain and when it was started, as far as they are there and make sense.
void read_guest(xenstore& from, model::guest& into);

} // namespace qubes::drivers
