// Devices that programs of two domains pass from one to the other: which services do it, and the
// rule of qrexec's policy that the second of them needs. Facts of the packages
// qubes-usb-proxy-dom0 and qubes-video-companion-dom0.
#pragma once

#include "model/base/service_call.hpp"
#include "model/device/device.hpp"

#include <string>

namespace qubes::model {

/// A service and the domain it runs in.
struct service_run {
  std::string domain;
  service_call call;
};

/// Whether the class takes these options; when it is assigned and when it is attached.
outcome<void> check_passing(std::string_view kind, const device_options& options);

/// In the domain that gets the device.
outcome<service_run> take_over(const view& v, const domain& who, const attachment& x);

/// In the domain that has the device back.
service_run hand_back(const attachment& x);

} // namespace qubes::model
