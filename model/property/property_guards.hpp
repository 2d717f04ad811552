// Guards refuse a change that the text alone allows: loops, in use, wrong state
// (spec/properties.md §2, spec/network.md §3). They do not run on load.
#pragma once

#include "model/property/property.hpp"

namespace qubes::model::guards {

using result = outcome<void>;

/// The kernel has a directory with a vmlinuz.
result kernel_installed(const subject& who, const value& next);
/// The netvm provides network, and is neither the domain itself nor behind it.
result netvm(const subject& who, const value& next);
/// No domain that takes the default would become its own netvm.
result default_netvm(const subject& who, const value& next);
/// No domain is connected when the domain stops providing network.
result provides_network(const subject& who, const value& next);
/// No disposable of the domain runs when its template changes.
result template_change(const subject& who, const value& next);
/// No domain needs this one as a disposable template when it stops being one.
result template_for_dispvms(const subject& who, const value& next);
/// There is a hypervisor for the virt_mode that takes the domain as it is, and no running domain
/// would change over from one to another.
result virt_mode(const subject& who, const value& next);
/// As kernel_installed, and the domain's hypervisor boots kernels.
result kernel(const subject& who, const value& next);
/// The ceiling of a running domain moves only with memory hotplug.
result maxmem(const subject& who, const value& next);

} // namespace qubes::model::guards
