// What dom0 does for guests that have no netvm and no kernel of their own to do it: bridges, and
// file systems of volumes.
#pragma once

#include "model/base/error.hpp"

#include <memory>
#include <string>

namespace qubes::drivers {

class container_host {
public:
  virtual ~container_host() = default;

  /// `own`: the bridge is made where it is missing, without an address of dom0's; else it has to be
  /// there.
  virtual model::outcome<void> bring_up_bridge(const std::string& name, bool own) = 0;

  /// Refuses what is no file system. `make`: one is made where there is nothing at all. `volume` is
  /// what refusals call it.
  virtual model::outcome<void> prepare_file_system(const std::string& volume,
                                                   const std::string& path, bool make) = 0;

  /// In place of what the link led to before.
  virtual model::outcome<void> link(const std::string& name, const std::string& path) = 0;
};

/// `mkfs`: a program that makes a file system, "" for none. `sysfs`: usually /sys.
std::unique_ptr<container_host> open_container_host(std::string mkfs, std::string sysfs);

} // namespace qubes::drivers
