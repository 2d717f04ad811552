// Addresses a domain has and gives (spec/network.md §6, spec/qubesdb-entries.md §1).
#pragma once

#include "model/guest/qubesdb.hpp"

namespace qubes::model {

/// What a domain gives to others, and what it has from its netvm.
void tell_own_network(const view& v, const domain& x, qubesdb_edits& to);

/// For a netvm: the addresses of all that are connected to it.
qubesdb_edits connected_addresses(const view& v, const domain& netvm);

/// For the netvm of `client`: what the client takes for its address and its gateway.
qubesdb_edits mapped_address(const view& v, const domain& client);

} // namespace qubes::model
