// A XenStore in memory, as strict as the real one.
#pragma once

#include "drivers/guest/xenstore.hpp"

#include <memory>
#include <string>

namespace qubes::drivers {

class fake_xenstore : public xenstore {
public:
  /// An event that is no path, such as "@releaseDomain".
  virtual void announce(const std::string& event) = 0;

  /// As when the process that watches ends.
  virtual void forget_watches() = 0;
};

std::unique_ptr<fake_xenstore> make_fake_xenstore();

} // namespace qubes::drivers
