// Devices that come to a domain by themselves: which of its assignments speaks of a device, and
// which domains a new device is for (spec/devices.md §2, §7).
#pragma once

#include "model/device/device.hpp"

#include <string_view>
#include <vector>

namespace qubes::model {

/// Whether the assignment speaks of this device. An unknown device is matched by its port only.
bool matches(const assignment& x, const device& it);

/// The most specific assignment by which a domain wants the device; null when it does not.
const assignment* assignment_for(const domain& x, std::string_view kind, const device& it);

/// A domain and the assignment by which it gets a device.
struct taker {
  const domain* who;
  const assignment* how;
};

/// Running domains that want the device when it appears, each with its most specific assignment.
std::vector<taker> takers_of(const view& v, std::string_view kind, const device& it);

/// A device and the assignment by which it comes to a domain that has just started.
struct arrival {
  device what;
  assignment how;
};

/// The most specific assignments first, each free device at most once. Without what its XML brings.
std::vector<arrival> arrivals(const domain& who, std::string_view kind,
                              const std::vector<device>& offered);

/// Assignments that the domain cannot start without, in their order. Of several to one port only
/// the most specific: the device is there once.
std::vector<const assignment*> required_of(const domain& x, std::string_view kind);

/// The domain with its devices as they were found: an assignment to whatever is at a port says what
/// is there, and one to wherever a device is becomes one for each such device.
domain with_found(domain x, std::string_view kind, const std::vector<device>& found);

/// Refuses when a required device is not among those offered, or others have it.
outcome<void> check_required(const domain& x, std::string_view kind,
                             const std::vector<device>& offered);

} // namespace qubes::model
