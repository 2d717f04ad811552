// drivers/guest: ways to talk with a guest: QubesDB, XenStore, qrexec, the device agent.
//
// The program in the user's session that asks which domain a device is for: the socket service
// device-agent.GUI of dom0 (spec/devices.md §7, Ask).
#pragma once

#include "model/base/error.hpp"

#include <memory>
#include <stop_token>
#include <string>

namespace qubes::drivers {

class device_agent {
public:
  virtual ~device_agent() = default;

  /// The agent's answer to a question in JSON, at most 4 KiB. Blocks until the user has decided, or
  /// `stop` is requested.
  virtual model::outcome<std::string> ask(const std::string& question, std::stop_token stop) = 0;
};

std::unique_ptr<device_agent> open_device_agent(const std::string& run_directory);

} // namespace qubes::drivers
