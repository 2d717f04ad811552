// What libvirt's own parser says of a device, without a hypervisor: its test driver is asked.
#pragma once

#include "drivers/hypervisor/libvirt_handles.hpp"
#include "model/base/error.hpp"

#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

namespace qubes::drivers {

/// Thread-safe. Remembers what it was asked: simulations ask the same thousands of times.
class libvirt_parser {
public:
  libvirt_parser();

  /// Takes one element for hot-plug; the refusal is libvirt's sentence.
  model::outcome<void> parse_device(const std::string& xml);

private:
  model::outcome<void> ask(const std::string& xml) const;

  std::mutex mutex_;
  connection_handle link_;
  std::unordered_map<std::string, std::optional<model::error>> known_;
};

} // namespace qubes::drivers
