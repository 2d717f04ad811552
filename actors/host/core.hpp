// What every part of the registry has.
#pragma once

#include "actors/common/reply.hpp"
#include "actors/common/world.hpp"
#include "model/change/plan.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::actors {

/// Made and owned by the registry's actor; its parts know it for as long as they live.
class host_core {
public:
  explicit host_core(registry_actor::pointer self) : self(self) {}
  virtual ~host_core() = default;
  host_core(const host_core&) = delete;
  host_core& operator=(const host_core&) = delete;

  const world_ptr& world() const { return world_; }

  using planner = std::function<model::plan(const model::view&)>;
  /// Changes of the host's record are made one after the other: each plan sees the one before.
  virtual void change(planner what, const reply& to) = 0;
  /// Gives each record its actors, and ends all others. Returns what it looked at.
  virtual snapshot align() = 0;
  /// `DOMAIN:VOLUME` each, of domains that are being created.
  virtual std::vector<std::string> being_created_in(std::string_view pool) const = 0;
  /// The domain's record is gone, and its disks are being removed.
  virtual bool is_leaving(const std::string& domain) const = 0;

  registry_actor::pointer self;

protected:
  world_ptr world_;
};

} // namespace qubes::actors
