// Where PCI devices sit on their buses, as sysfs tells (spec/devices.md §8).
#pragma once

#include "model/device/device.hpp"
#include "model/system/pci_port.hpp"

#include <string>
#include <vector>

namespace qubes::drivers {

/// Turns addresses into ports: the way from the root bus, one hop a bridge. The address becomes the
/// device's `sbdf`. Sorted as listings are; what sysfs does not know is left out.
std::vector<model::device> place_pci(std::vector<model::device> all, const std::string& sysfs);

/// All buses and devices of the host. What sysfs does not tell is left out.
model::pci_layout survey_pci(const std::string& sysfs);

} // namespace qubes::drivers
