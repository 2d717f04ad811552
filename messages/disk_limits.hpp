// How long work on disks may take; each is a key of the configuration file.
#pragma once

#include <chrono>

namespace qubes {

struct disk_limits {
  std::chrono::seconds disk_call{600};     ///< volumes: a copy may take longer if it gets on
  std::chrono::seconds disk_answer{10800}; ///< ... and is not waited for beyond this
};

} // namespace qubes
