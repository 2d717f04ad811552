#include "model/property/reachable.hpp"

#include <fmt/format.h>

namespace qubes::model {

outcome<void> check_awake(const view& v, const domain& x) {
  if (!x.is(qubes_vm))
    return {};
  auto facts = v.facts(x);
  auto refuse = [&](std::string_view what, std::string_view order) {
    return fail(errc::vm_not_running, fmt::format("'{}' {}", x.name.str(), what),
                fmt::format("'qvmctl {} {}' first", order, x.name.str()));
  };
  if (facts.state == power::paused)
    return refuse("is paused", "unpause");
  if (facts.state == power::suspended)
    return refuse("is suspended", "resume");
  if (facts.state == power::crashed)
    return refuse("has crashed", "start");
  if (facts.xid < 0)
    return refuse("is not running", "start");
  return {};
}

error no_agent(std::string_view name) {
  return {
      errc::vm_error, fmt::format("the qrexec agent of '{}' is not connected", name),
      fmt::format("wait until it is up; /var/log/xen/console/guest-{}.log may say why it is not",
                  name)};
}

outcome<void> check_reachable(const view& v, const domain& x) {
  if (auto awake = check_awake(v, x); !awake)
    return awake;
  if (x.is(qubes_vm) && !v.facts(x).agent)
    return tl::unexpected{no_agent(x.name.str())};
  return {};
}

} // namespace qubes::model
