#include "model/system/view.hpp"

#include "model/property/kind_of.hpp"

namespace qubes::model {

power power_of(const view& v, const domain& x) {
  if (!x.is(qubes_vm))
    return power::running;
  auto now = v.facts(x);
  if (now.state == power::running && !now.agent && has_agent(v, x))
    return power::starting;
  return now.state;
}

bool is_running(const view& v, const domain& x) {
  return x.is(admin_vm) || is_active(v.facts(x).state);
}

} // namespace qubes::model
