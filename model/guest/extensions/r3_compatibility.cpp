// What programs in domains of release 3 look for.
#include "model/guest/extensions/all.hpp"
#include "model/network/legacy_firewall.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

struct old_service {
  std::string_view feature;
  std::string_view name;
};
constexpr old_service old_services[]{
    {"service.ntpd", "ntpd"},
    {"check-updates", "qubes-update-check"},
    {"dvm", "qubes-dvm"},
    {"updates-proxy-setup", "yum-proxy-setup"},
};

std::string_view old_type(const view& v, const domain& x) {
  if (x.is(template_class))
    return "TemplateVM";
  if (provides_network(v, x))
    return netvm_of(v, x) ? "ProxyVM" : "NetVM";
  return "AppVM";
}

outcome<void> at_start(const guest_start& x, qubesdb_edits& to) {
  put(to, "/qubes-vm-type", std::string{old_type(x.v, x.who)});
  put(to, "/qubes-iptables-error", "");
  if (is_legacy(x.v, x.who))
    for (auto& it : legacy_firewall(x.v, x.who, {}, x.now_s))
      to.push_back(std::move(it));
  for (auto& it : old_services)
    if (auto* text = find_feature(x.v, x.who, it.feature, chain::own))
      put(to, fmt::format("/qubes-service/{}", it.name), text->empty() ? "0" : "1");
  return {};
}

} // namespace

const extension r3_compatibility{"r3-compatibility", nullptr, nullptr, at_start, nullptr, nullptr};

} // namespace qubes::model
