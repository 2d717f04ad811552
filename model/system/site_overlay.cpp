#include "model/system/site_overlay.hpp"

#include "model/base/literal.hpp"
#include "model/system/system.hpp"

#include <fmt/format.h>

namespace qubes::model {

std::string why_unread(const site_overlay& x, const system& now) {
  auto owner = now.find(x.domain);
  if (owner && owner->is(qubes_vm))
    return x.fault.empty() ? std::string{}
                           : fmt::format("{} cannot be read, and {} does not start: {}", x.file,
                                         quoted(x.domain), x.fault);
  return fmt::format("{} has no effect: {} {}", x.file, quoted(x.domain),
                     owner ? "is not started here" : "is no domain here");
}

} // namespace qubes::model
