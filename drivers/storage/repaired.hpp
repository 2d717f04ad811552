// After a crash: a volume is brought to rest one step at a time.
#pragma once

#include "model/base/error.hpp"

#include <type_traits>

namespace qubes::drivers::storage {

/// What `read` says once `repair` finds nothing more to do, or `most_steps` were done. `repair`
/// answers whether it did a step.
template <class Read, class Repair>
auto repaired(Read read, Repair repair, int most_steps) -> std::invoke_result_t<Read> {
  auto has = read();
  for (auto i = 0; i < most_steps && has; ++i) {
    model::outcome<bool> done = repair(*has);
    if (!done)
      return tl::unexpected{std::move(done.error())};
    if (!*done)
      break;
    has = read();
  }
  return has;
}

} // namespace qubes::drivers::storage
