#include "model/property/service_user.hpp"

#include "model/property/feature.hpp"
#include "model/property/property.hpp"

namespace qubes::model {

std::string service_user(const view& v, const domain& x) {
  auto about = subject{v, &x};
  auto mode = read_text(about, "bootmode");
  auto* of_mode = mode == "default"
                      ? nullptr
                      : find_feature(v, x, "boot-mode.default-user." + mode, chain::with_template);
  return of_mode && !of_mode->empty() ? *of_mode : read_text(about, "default_user");
}

} // namespace qubes::model
