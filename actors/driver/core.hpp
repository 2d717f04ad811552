// What every part of the driver has.
#pragma once

#include "actors/common/world.hpp"
#include "actors/driver/machinery.hpp"

#include <memory>
#include <string_view>

namespace qubes::actors {

/// Made and owned by the driver's actor; its parts know it for as long as they live.
class driver_core {
public:
  explicit driver_core(driver_actor::pointer self) : self(self) {}
  driver_core(const driver_core&) = delete;
  driver_core& operator=(const driver_core&) = delete;

  const world_ptr& world() const { return world_; }
  /// Calls on lanes share the machinery, and may outlive their daemon.
  const std::shared_ptr<machinery>& with() const { return with_; }

  driver_actor::pointer self;

protected:
  ~driver_core() = default;

  world_ptr world_;
  std::shared_ptr<machinery> with_;
};

/// The hypervisor as refusals call it.
constexpr std::string_view name_of(model::hypervisor_id x) {
  return x == model::hypervisor_id::host ? "the hypervisor" : "the hypervisor of containers";
}

} // namespace qubes::actors
