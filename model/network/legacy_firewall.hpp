// Firewall rules as netvms of release 3 read them: text for iptables (spec/qubesdb-entries.md §5).
#pragma once

#include "model/network/firewall.hpp"
#include "model/system/qubesdb_edit.hpp"
#include "model/system/view.hpp"

#include <map>

namespace qubes::model {

/// Whether a netvm needs such text: those of today say that they have the firewall service.
bool is_legacy(const view& v, const domain& netvm);

/// The whole set; rules of clients by name. Clients that do not run or have no address are left
/// out.
qubesdb_edits legacy_firewall(const view& v, const domain& netvm,
                              const std::map<std::string, firewall_rules>& rules,
                              std::int64_t now_s);

} // namespace qubes::model
