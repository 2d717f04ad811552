// drivers/host: what dom0 is and has: its facts, PCI devices, memory manager, policy files.
//
// Which domains start with the host: links to systemd's unit that starts one
// (spec/lifecycle.md §7).
#pragma once

#include "model/base/error.hpp"

#include <memory>
#include <set>
#include <string>

namespace qubes::drivers {

class boot_links {
public:
  virtual ~boot_links() = default;

  /// On disk once it succeeded. What is so already is fine.
  virtual model::outcome<void> set(const std::string& domain, bool on) = 0;

  /// These domains and no others start with the host from now on: a daemon may have died between a
  /// change of a record and its link.
  virtual model::outcome<void> align(const std::set<std::string>& domains) = 0;
};

/// In a directory such as `multi-user.target.wants`, which is made if it is missing; "" for none.
std::unique_ptr<boot_links> open_boot_links(std::string directory);

} // namespace qubes::drivers
