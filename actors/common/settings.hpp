// Deadlines and limits of the runtime; each is a key of the configuration file.
#pragma once

#include "actors/boards/quotas.hpp"
#include "messages/call_limits.hpp"
#include "messages/disk_limits.hpp"
#include "messages/order_limits.hpp"

#include <chrono>
#include <cstddef>

namespace qubes::actors {

struct settings : call_limits, disk_limits, order_limits, quotas {
  unsigned pool_workers = 8;                      ///< pieces of work that a pool does at a time
  std::chrono::seconds commit{60};                ///< a change until it is on disk
  std::chrono::milliseconds reconnect_first{100}; ///< back-off to the hypervisor doubles from here
  std::chrono::milliseconds reconnect_most{5000}; ///< ... up to here
  std::size_t generations = 100;      ///< older qubes.xml files that are kept whatever their age
  std::size_t batch = 1000;           ///< changes written at once
  std::size_t caller_requests = 256;  ///< under way at a time for one domain, but dom0
  std::size_t others_requests = 6144; ///< ... and for all domains but dom0 together
};

} // namespace qubes::actors
