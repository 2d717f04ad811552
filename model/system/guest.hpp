// A domain as the hypervisor sees it, and what it tells about it.
#pragma once

#include "model/base/hypervisor_kind.hpp"
#include "model/base/power.hpp"

#include <cstdint>
#include <string>

namespace qubes::model {

struct guest {
  std::string uuid;
  std::string name;
  std::int32_t xid = -1;
  model::power state = model::power::halted;
  std::uint64_t memory_kib = 0;
  std::uint64_t memory_most_kib = 0; ///< what it may be given
  unsigned vcpus = 1;                ///< online
  std::uint64_t cpu_time_ns = 0;
  std::int32_t stubdom_xid = -1; ///< of its stub domain, -1 for none
  std::string stubdom_uuid{};    ///< canonical, "" for none
  std::int64_t started_us = 0;   ///< microseconds since the epoch, 0 when unknown
  hypervisor_id at = hypervisor_id::host;
};

/// An interface of a guest, at the netvm that serves it.
struct network_link {
  std::string netvm;
  std::string mac;
  std::int32_t backend = -1; ///< xid of that netvm when it was made, -1 when unknown
};

enum class guest_event : std::uint8_t { started, suspended, resumed, stopped, crashed, slept };

} // namespace qubes::model
