// A site's changes of the libvirt XML of one domain (docs/libvirt-overlay.md): a file by its name.
#pragma once

#include <string>

namespace qubes::model {

struct system;

struct site_overlay {
  std::string file;
  std::string domain;  ///< that it is for
  std::string fault{}; ///< why it cannot be read, "" where it can

  bool operator==(const site_overlay&) const = default;
};

/// Why no start will ever read the overlay, or none that wants to; "" where one will.
std::string why_unread(const site_overlay& x, const system& now);

} // namespace qubes::model
