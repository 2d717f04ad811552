// What a guest is told at its start: QubesDB entries, and XenStore entries it may write.
#pragma once

#include "model/view.hpp"

#include <string>
#include <utility>
#include <vector>

namespace qubes::model {

using entry_list = std::vector<std::pair<std::string, std::string>>;

/// In the order of spec/qubesdb-entries.md §1. The random seed is the driver's business.
entry_list qubesdb_entries(const view& v, const domain& x);

/// Memory balancing entries (spec/lifecycle.md §2 step 14); an empty value is the guest's to fill.
entry_list xenstore_entries(const view& v, const domain& x, std::int64_t xid);

} // namespace qubes::model
