// What running domains use, asked of Xen itself: libvirt's answer waits while libxl builds others.
#pragma once

#include "model/base/error.hpp"
#include "model/system/guest.hpp"

#include <memory>
#include <vector>

namespace qubes::drivers {

class usage_meter {
public:
  virtual ~usage_meter() = default;

  /// Every domain that Xen has, dom0 and stub domains too: what they use, without name and state.
  /// One call at a time, which waits for nothing.
  virtual model::outcome<std::vector<model::guest>> read() = 0;
};

/// Null, and told in the log, where there is no Xen.
std::shared_ptr<usage_meter> open_usage_meter();

} // namespace qubes::drivers
