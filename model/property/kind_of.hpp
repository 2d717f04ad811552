// On which hypervisor of the host a domain is, and what follows from that.
#pragma once

#include "model/base/hypervisor_kind.hpp"
#include "model/system/view.hpp"

namespace qubes::model {

/// Where a domain runs; where it would be started, when it does not.
hypervisor_id hypervisor_of(const view& v, const domain& x);

/// Where a domain would be started next.
hypervisor_id next_hypervisor_of(const view& v, const domain& x);

/// The kind of that hypervisor. Containers that are not configured are of the kind they would be.
const kind_row& kind_of(const view& v, const domain& x);

inline const abilities& abilities_of(const view& v, const domain& x) {
  return kind_of(v, x).can;
}

/// The kind whose XML a domain gets: another one than its own where a driver stands in.
hypervisor_kind form_of(const view& v, const domain& x);

/// Whether qrexec reaches an agent in the domain while it runs.
bool has_agent(const view& v, const domain& x);

/// Refuses a device of another domain that cannot come to this one, whatever is done.
outcome<void> check_device(const view& v, const domain& x, std::string_view device_class,
                           std::string_view backend);

/// The host's bridge by which a domain serves its clients, where guests do not serve each other.
std::string bridge_of(const domain& netvm);

/// The MAC of a netvm's interface at its bridge.
std::string serving_mac(const domain& netvm);

/// The MAC of a domain's own interface where domains share a bridge.
std::string bridged_mac(const domain& x);

/// Refuses a domain that no configured hypervisor takes as it is: its kernel, its PCI devices, its
/// netvm. Each refusal says what would help.
outcome<void> check_kind(const view& v, const domain& x);

} // namespace qubes::model
