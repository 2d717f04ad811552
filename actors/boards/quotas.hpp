// How much of qubes.xml clients may take; each is a key of the configuration file.
#pragma once

#include <cstddef>

namespace qubes::actors {

/// Bytes. What makes nothing larger is always allowed.
struct quotas {
  std::size_t value_bytes = 256U << 10;         ///< argument and payload of one order of dom0
  std::size_t others_value_bytes = 32U << 10;   ///< ... of any other domain
  std::size_t domain_bytes = 1U << 20;          ///< one domain's record, as dom0 may make it
  std::size_t others_domain_bytes = 256U << 10; ///< ... as any other may make it
  std::size_t caller_bytes = 8U << 20;  ///< what one domain, but dom0, has in all records together
  std::size_t others_bytes = 32U << 20; ///< the file, as domains but dom0 may make it
};

} // namespace qubes::actors
