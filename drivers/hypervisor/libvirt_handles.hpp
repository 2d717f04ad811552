// libvirt's counted objects as owners that let go by themselves.
#pragma once

#include "drivers/io/release.hpp"

#include <libvirt/libvirt.h>

#include <cstdlib>
#include <memory>

namespace qubes::drivers {

using connection_handle = std::unique_ptr<virConnect, release<virConnectClose>>;
using domain_handle = std::unique_ptr<virDomain, release<virDomainFree>>;

using node_device_handle = std::unique_ptr<virNodeDevice, release<virNodeDeviceFree>>;
using text_handle = std::unique_ptr<char, release<std::free>>;

} // namespace qubes::drivers
