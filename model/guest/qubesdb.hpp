// What a guest is told: QubesDB entries, and XenStore entries it may write.
#pragma once

#include "model/base/error.hpp"
#include "model/system/qubesdb_edit.hpp"
#include "model/system/view.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qubes::model {

/// What a start brings along that is no fact of the system.
struct occasion {
  std::string seed; ///< 64 random bytes
  std::int64_t now_s = 0;
};

/// All a domain is told at its start, and again when its netvm changed: what every domain has, then
/// what the extensions add (spec/qubesdb-entries.md §1).
outcome<qubesdb_edits> qubesdb_entries(const view& v, const domain& x, const occasion& when);

/// Memory balancing entries (spec/lifecycle.md §2 step 14); an empty value is the guest's to fill.
entry_list xenstore_entries(const view& v, const domain& x, std::int64_t xid);

/// The memory entry that may change while the domain runs: how much it may be given.
entry_list ceiling_entries(const view& v, const domain& x, std::int64_t xid);

} // namespace qubes::model
