// model/property: what a domain is told to be: properties and features, their rules, what they lead
// to.
//
// Defaults of properties as functions of the system, the live facts and the machine
// (spec/properties.md §2). The property table names one of them per row.
#pragma once

#include "model/property/property.hpp"

namespace qubes::model {

/// Has a netvm or is one (spec/network.md §1).
bool is_networked(const view& v, const domain& x);

/// A disposable that waits in its template's list of preloaded ones (spec/vm-classes.md §7).
bool is_preload(const view& v, const domain& x);

/// Memory may move to and from the domain while it runs (spec/properties.md §2).
bool can_balance_memory(const view& v, const domain& x);

} // namespace qubes::model

namespace qubes::model::defaults {

using result = std::optional<value>;

/// Not set until a client sets it; reading finds nothing.
result unset(const subject&);
/// Set to nothing.
result nothing(const subject&);

result yes(const subject&);
result no(const subject&);
result empty(const subject&);

template <std::int64_t Number>
result number(const subject&) {
  return Number;
}

// -- identity -------------------------------------------------------------------------------------
result class_name(const subject& who);
result icon(const subject& who);
result dom0_icon(const subject& who);
result dom0_name(const subject& who);
result uuid_of_dom0(const subject& who);
result dom0_layout(const subject& who);
result updates_itself(const subject& who);
result in_backups_unless_cleaned_up(const subject& who);
result preload(const subject& who);

// -- taken over from the template, else from the host or built in ---------------------------------
result user(const subject& who);
result memory(const subject& who);
result vcpus(const subject& who);
result virt_mode(const subject& who);
result kernel(const subject& who);
result qrexec_timeout(const subject& who);
result shutdown_timeout(const subject& who);
result management_dispvm(const subject& who);
result maxmem(const subject& who);
result own_template(const subject& who);
result keyboard_layout(const subject& who);

// -- taken over from the host ---------------------------------------------------------------------
result default_netvm(const subject& who);
result default_guivm(const subject& who);
result default_audiovm(const subject& who);
result default_dispvm(const subject& who);

// -- network --------------------------------------------------------------------------------------
result mac(const subject& who);
result ip(const subject& who);
result ip6(const subject& who);
result dns(const subject& who);
result gateway(const subject& who);
result gateway6(const subject& who);
result visible_ip(const subject& who);
result visible_ip6(const subject& who);
result visible_gateway(const subject& who);
result visible_gateway6(const subject& who);
result visible_netmask(const subject& who);

// -- the present life -----------------------------------------------------------------------------
result xid(const subject& who);
result stubdom_xid(const subject& who);
result stubdom_uuid(const subject& who);
result start_time(const subject& who);

// -- the host -------------------------------------------------------------------------------------
result host_memory(const subject& who);
result dom0_memory(const subject& who);
result host_cpus(const subject& who);
result default_pool(const subject& who);
result same_as_default_pool(const subject& who);

} // namespace qubes::model::defaults
