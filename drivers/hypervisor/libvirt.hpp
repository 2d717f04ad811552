// Hypervisor calls over libvirt.
#pragma once

#include "drivers/hypervisor/hypervisor.hpp"

#include <memory>

namespace qubes::drivers {

struct libvirt_options {
  std::string uri;     ///< e.g. "xen:///system", "test:///default"
  unsigned host = 4;   ///< calls of each kind at the same time, every one on a connection of its
  unsigned build = 8;  ///< own, which is opened when it is needed; more wait in their threads.
  unsigned guest = 64; ///< Kills have theirs from the beginning.
  unsigned rescue = 4;
  std::chrono::seconds silence{60}; ///< a daemon that answers nothing for so long is lost; libvirtd
                                    ///< is silent for half of it while Xen builds a large domain
};

/// Does not connect yet. The event thread lives as long as the object. Where the object is called,
/// SIGPIPE must be ignored or blocked (as lanes do): libvirt writes to daemons that may be gone.
std::unique_ptr<hypervisor> make_libvirt(libvirt_options x);

} // namespace qubes::drivers
