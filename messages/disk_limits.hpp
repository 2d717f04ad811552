// How long work on disks may take; what can be set is a key of the configuration file.
#pragma once

#include <chrono>

namespace qubes {

struct disk_limits {
  std::chrono::seconds disk_call{600}; ///< volumes: a copy may take longer if it gets on
  /// ... whose pool sees to its end: a client that is told before that it failed may find it done
  /// after.
  std::chrono::milliseconds disk_answer = std::chrono::milliseconds::max();
};

} // namespace qubes
