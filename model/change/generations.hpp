// Which older qubes.xml files are kept: the youngest, then fewer the older they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace qubes::model {

/// A qubes.xml of before a change.
struct generation {
  std::uint64_t number = 0; ///< higher is younger
  std::int64_t written_ns = 0;

  bool operator==(const generation&) const = default;
};

/// Generations that need not be kept. `known` is in order of numbers. Kept are the `recent`
/// youngest, whatever the clock says, and the youngest of each hour of a day, each day of a month
/// and each week of a year. None is kept when `recent` is 0.
std::vector<generation> surplus(const std::vector<generation>& known, std::int64_t now_ns,
                                std::size_t recent);

} // namespace qubes::model
