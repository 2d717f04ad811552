// A relay knows the domains of other hosts that are reached through it.
#include "model/guest/extensions/all.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

void tell(const view& v, const domain& remote, qubesdb_edits& to) {
  auto far = read_text({v, &remote}, "remote_name");
  put(to, fmt::format("/remote/{}", remote.name.str()), far.empty() ? remote.name.str() : far);
}

void when_started(const view& v, const domain& x, notices& to) {
  for (auto& it : v.system.domains)
    if (it->is(remote_vm) && read_domain({v, it.get()}, "relayvm") == &x)
      tell(v, *it, to[x.name]);
}

void when_changed(const transition& x, notices& to) {
  if (!touches(x.what, "relayvm"))
    return;
  for (auto& it : x.after.system.domains) {
    if (!it->is(remote_vm))
      continue;
    auto* former = x.before.system.find(it->name.str());
    auto* relay = read_domain({x.after, it.get()}, "relayvm");
    if (relay && listens(x.after, *relay)
        && (!former || read_text({x.before, former}, "relayvm") != relay->name.str()))
      tell(x.after, *it, to[relay->name]);
  }
}

} // namespace

const extension relay{"relay", nullptr, nullptr, nullptr, when_started, when_changed};

} // namespace qubes::model
