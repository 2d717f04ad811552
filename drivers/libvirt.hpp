// Hypervisor calls over libvirt.
#pragma once

#include "drivers/hypervisor.hpp"

#include <memory>

namespace qubes::drivers {

struct libvirt_options {
  std::string uri;          ///< e.g. "xen:///system", "test:///default"
  unsigned connections = 4; ///< libvirtd serves five calls per connection at once; the test driver
                            ///< always gets one, it keeps its domains in it
  std::chrono::seconds keepalive{2}; ///< a silent daemon is dead after about twice this
};

/// Does not connect yet. Its event thread lives as long as the object. Where it is called, SIGPIPE
/// must be ignored or blocked (as lanes do): libvirt writes to daemons that may be gone.
std::unique_ptr<hypervisor> make_libvirt(libvirt_options x);

} // namespace qubes::drivers
