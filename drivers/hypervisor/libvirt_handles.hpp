// libvirt's counted objects as owners that let go by themselves.
#pragma once

#include <libvirt/libvirt.h>

#include <cstdlib>
#include <memory>

namespace qubes::drivers {

template <auto Release>
struct libvirt_release {
  template <class T>
  void operator()(T* x) const noexcept {
    Release(x);
  }
};

using connection_handle = std::unique_ptr<virConnect, libvirt_release<virConnectClose>>;
using domain_handle = std::unique_ptr<virDomain, libvirt_release<virDomainFree>>;

using node_device_handle = std::unique_ptr<virNodeDevice, libvirt_release<virNodeDeviceFree>>;
using text_handle = std::unique_ptr<char, libvirt_release<std::free>>;

} // namespace qubes::drivers
