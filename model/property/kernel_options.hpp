// What the kernel of a domain is told at boot, and what it can do (spec/properties.md §2 KO, BM;
// §6 use_memory_hotplug).
#pragma once

#include "model/property/default_rules.hpp"

namespace qubes::model {

/// The kernel directory a domain boots from; null when the domain boots its own, or the chosen one
/// is not installed.
const model::kernel* kernel_of(const view& v, const domain& x);

/// The kernel of the host that loads the guest's own, "" where none is needed.
std::string_view boot_loader_of(std::string_view virt_mode);

/// Whether the domain has no kernel of the host, or only that boot loader.
bool boots_own_kernel(const view& v, const domain& x);

/// Memory may be added beyond what the domain started with.
bool can_hotplug_memory(const view& v, const domain& x);

} // namespace qubes::model

namespace qubes::model::defaults {

result kernelopts(const subject& who);
result bootmode(const subject& who);
result appvm_default_bootmode(const subject& who);

} // namespace qubes::model::defaults
