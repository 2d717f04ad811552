// Gateways and workstations of Whonix, as qubes-core-admin-addon-whonix has them: which domains
// they are, and that a workstation reaches the network through a gateway or not at all.
#include "model/guest/extensions/all.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"

#include <algorithm>

namespace qubes::model {

namespace {

constexpr auto gateway = std::string_view{"whonix-gw"};
constexpr auto workstation = std::string_view{"whonix-ws"};
constexpr auto usual_gateway = std::string_view{"sys-whonix"};
constexpr auto usual_dispvm = std::string_view{"whonix-workstation-18-dvm"};
constexpr auto event_delay = std::string_view{"gui-events-max-delay"};

/// What marks a kind of domain; a domain that has the feature, itself or by its template, gets the
/// tags.
struct kind {
  std::string_view feature;
  std::string_view tags[2];
};
constexpr kind kinds[]{
    {gateway, {"anon-gateway", "sdwdate-gui-server"}},
    {workstation, {"anon-vm", "sdwdate-gui-client"}},
};

bool is_one(const view& v, const domain& x, std::string_view feature) {
  return has_feature(v, x, feature, chain::with_template);
}

/// The domain that a feature of this one or of its template names, if it says itself that it is of
/// the kind.
const domain* named_by(const view& v, const domain& x, std::string_view feature,
                       std::string_view of_kind) {
  auto* name = find_feature(v, x, feature, chain::with_template);
  auto* found = name ? v.system.find(*name) : nullptr;
  return found && has_feature(v, *found, of_kind, chain::own) ? found : nullptr;
}

/// Sets the property also when that is its default: another default must not change it.
void choose(sequel& to, const domain& x, std::string_view property, const domain* next) {
  auto name = next ? next->name.str() : std::string{};
  auto stored = x.properties.find(property);
  if (stored != x.properties.end() && to_text(stored->second) == name)
    return;
  to.include(plan_set_property(to.now(), &x, property, name));
}

// -- the network ----------------------------------------------------------------------------------

/// No netvm when there is no gateway: a workstation must not be seen by its address.
void choose_netvm(sequel& to, const domain& x) {
  auto v = to.now();
  auto* netvm = x.is(template_class) ? nullptr : read_domain({v, &x}, "netvm");
  if (!netvm)
    return;
  if (!is_one(v, *netvm, gateway)) {
    auto* named = named_by(v, x, "whonix-default-gw", gateway);
    netvm = named ? named : v.system.find(usual_gateway);
  }
  choose(to, x, "netvm", netvm);
}

// -- disposables ----------------------------------------------------------------------------------

/// `based_on`: the template whose disposables they are.
const domain* usual_dispvm_of(const view& v, const domain& x, const domain& based_on) {
  if (auto* named = named_by(v, x, "whonix-default-dispvm", workstation))
    return named;
  auto* own = v.system.find(based_on.name.str() + "-dvm");
  return own ? own : v.system.find(usual_dispvm);
}

/// What cannot make disposables is as good as missing.
void choose_dispvm(sequel& to, const domain& x, const domain* next) {
  auto v = to.now();
  auto able = next && read_bool({v, next}, "template_for_dispvms");
  choose(to, x, "default_dispvm", able ? next : nullptr);
}

/// Disposables of a gateway are workstations or none.
void check_dispvm_of_gateway(sequel& to, const domain& x) {
  auto v = to.now();
  auto* dispvm = read_domain({v, &x}, "default_dispvm");
  if (dispvm && !is_one(v, *dispvm, workstation))
    choose_dispvm(to, x, nullptr);
}

/// The template's become those of its first disposable template that is a workstation.
void offer_to_template(sequel& to, const domain& x) {
  auto v = to.now();
  auto* based_on = template_of(v, x);
  auto* theirs = based_on ? read_domain({v, based_on}, "default_dispvm") : nullptr;
  if (theirs && !is_one(v, *theirs, workstation))
    choose_dispvm(to, *based_on, &x);
}

void choose_dispvm_of_workstation(sequel& to, const domain& x) {
  auto makes_some = read_bool({to.now(), &x}, "template_for_dispvms");
  if (makes_some)
    offer_to_template(to, x);
  auto v = to.now();
  auto* dispvm = read_domain({v, &x}, "default_dispvm");
  if (!dispvm)
    return;
  auto fits = is_one(v, *dispvm, workstation);
  if (x.is(template_class)) {
    if (!fits)
      choose_dispvm(to, x, usual_dispvm_of(v, x, x));
    return;
  }
  auto* based_on = template_of(v, x);
  choose_dispvm(to, x,
                makes_some ? &x
                : fits     ? dispvm
                           : usual_dispvm_of(v, x, based_on ? *based_on : x));
}

// -- the whole ------------------------------------------------------------------------------------

void set_for_class(sequel& to, const domain& x, std::string_view feature) {
  if (feature == gateway)
    return check_dispvm_of_gateway(to, x);
  choose_netvm(to, x);
  choose_dispvm_of_workstation(to, x);
}

void set_up_new(sequel& to, const domain& x) {
  for (auto& it : kinds) {
    auto v = to.now();
    if (!is_one(v, x, it.feature))
      continue;
    auto marks = draft{v};
    for (auto tag : it.tags)
      marks.add_tag(x, tag);
    to.include(std::move(marks).finish());
    set_for_class(to, x, it.feature);
  }
  if (auto v = to.now(); is_one(v, x, workstation) && !x.features.find(event_delay))
    to.include(plan_set_feature(v, x, event_delay, "100"));
}

void when_told(const event& x, sequel& to) {
  auto v = to.now();
  auto* who = subject_of(v, x);
  if (!who)
    return;
  if (x.name == "domain-add" && who->is(local_vm))
    return set_up_new(to, *who);
  for (auto feature : {workstation, gateway})
    if (x.name == "domain-feature-set:" + std::string{feature}
        && has_feature(v, *who, feature, chain::own))
      set_for_class(to, *who, feature);
}

/// A template may say what it is, never that it is not.
void when_asked(const domain& owner, const features_request& request, draft& to) {
  if (!owner.is(template_class))
    return;
  for (auto& it : kinds)
    if (request.contains(std::string{it.feature})) {
      to.set_feature(owner, it.feature, "1");
      to.add_tag(owner, "whonix-updatevm");
    }
}

bool when_loaded(const view& v, domain& x) {
  if (!x.is(local_vm))
    return false;
  auto mended = false;
  for (auto& it : kinds)
    if (is_one(v, x, it.feature))
      for (auto tag : it.tags)
        mended |= x.tags.emplace(tag).second;
  if (!is_one(v, x, workstation) || x.features.find(event_delay))
    return mended;
  x.features.set(event_delay, "100");
  return true;
}

} // namespace

const extension whonix{.name = "whonix",
                       .may_start = nullptr,
                       .may_stop = nullptr,
                       .at_start = nullptr,
                       .when_started = nullptr,
                       .when_changed = nullptr,
                       .of = package::whonix,
                       .when_told = when_told,
                       .when_asked = when_asked,
                       .when_loaded = when_loaded};

} // namespace qubes::model
