// A domain as the hypervisor sees it, and what it tells about it.
#pragma once

#include "model/power.hpp"

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
};

enum class guest_event : std::uint8_t { started, suspended, resumed, stopped, crashed, slept };

} // namespace qubes::model
