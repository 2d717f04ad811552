// What needs a domain: properties that name it and devices it offers.
#pragma once

#include "bin/qvmctl/requests.hpp"

namespace qubes::ctl {

/// A property of `owner` ("@host" for the host) that is set to a domain, or an assignment of one of
/// its devices to `owner`.
struct reference {
  std::string owner;
  std::string property{}; ///< "" for a device
  std::string klass{};    ///< of the device
  std::string argument{}; ///< port and identity, as the Admin API names them after the backend
  pairs how{};            ///< mode and options

  /// "netvm of work"
  std::string text() const;
};

/// All but `domain` itself.
expected<std::vector<reference>> references_to(session& s, const std::string& domain);

/// Of every class of devices.
expected<std::vector<std::string>> device_classes(session& s);

} // namespace qubes::ctl
