// Xen's own tool, for what libvirt has lost sight of.
#pragma once

#include "model/base/error.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace qubes::drivers {

/// Every call blocks, for a minute at most.
class toolstack {
public:
  virtual ~toolstack() = default;

  /// Ends a guest.
  virtual model::outcome<void> destroy(std::int32_t xid) = 0;

  /// Takes a disk away by its front end (`xvdi`); one that is not there is gone already.
  virtual model::outcome<void> detach_disk(std::int32_t xid, const std::string& target) = 0;

  /// Takes an interface away by its MAC; the same.
  virtual model::outcome<void> detach_interface(std::int32_t xid, const std::string& mac) = 0;
};

/// `program` is xl; null for "".
std::shared_ptr<toolstack> open_toolstack(const std::string& program);

} // namespace qubes::drivers
