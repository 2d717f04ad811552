#include "model/change/reactions.hpp"

#include "model/property/graph.hpp"

#include <fmt/format.h>

#include <array>

namespace qubes::model {

namespace {

using handler = void (*)(draft&, const turn&);

bool changed(const turn& x) {
  return x.old != x.next;
}

// -- looks ------------------------------------------------------------------------------------

void announce_icon(draft& to, const turn& x) {
  to.tell_reset(*x.owner, "icon");
}

void follow_servicevm(draft& to, const turn& x) {
  auto on = x.next && truthy(*x.next);
  if (!on && !x.owner->features.find("servicevm"))
    return;
  if (on)
    to.set_feature(*x.owner, "servicevm", "1");
  else
    to.remove_feature(*x.owner, "servicevm");
  to.tell_reset(*x.owner, "icon");
}

// -- network ----------------------------------------------------------------------------------

void announce_gateways(draft& to, const turn& x) {
  if (!changed(x))
    return;
  to.tell_reset(*x.owner, "gateway");
  to.tell_reset(*x.owner, "gateway6");
}

/// `family` is "" for IPv4 and "6" for IPv6.
void announce_address_of(draft& to, const turn& x, std::string_view family) {
  if (provides_network(to.v, *x.owner))
    to.tell_reset(*x.owner, fmt::format("gateway{}", family));
  to.tell_reset(*x.owner, fmt::format("visible_ip{}", family));
  for (auto client : connected_to(to.v, *x.owner))
    to.tell_reset(*client, fmt::format("visible_gateway{}", family));
}

void announce_address(draft& to, const turn& x, std::string_view family) {
  if (changed(x))
    announce_address_of(to, x, family);
}

void announce_ipv4(draft& to, const turn& x) {
  announce_address(to, x, "");
}

/// A reset is told even if the address stays.
void announce_ipv4_reset(draft& to, const turn& x) {
  announce_address_of(to, x, "");
}

void announce_ipv6(draft& to, const turn& x) {
  announce_address(to, x, "6");
}

/// A paused domain keeps its interface; what it was connected to is remembered until it runs.
void remember_while_paused(draft& to, const turn& x) {
  if (to.v.facts(*x.owner).state == power::paused && !x.owner->features.find(deferred_netvm))
    to.set_feature_first(*x.owner, deferred_netvm, x.old ? to_text(*x.old) : std::string{});
}

/// A reset that leads to another netvm is told as a change, too.
void announce_netvm(draft& to, const turn& x) {
  if (!changed(x))
    return;
  remember_while_paused(to, x);
  to.tell(property_event("property-set", x.owner, x.name, x.next, x.old));
}

void announce_default_netvm(draft& to, const turn& x) {
  for (auto user : at_default(to.v, "netvm")) {
    auto mine = turn{user, "netvm", x.old, user->is(template_class) ? value{none{}} : x.next};
    react_to_reset(to, mine);
    to.tell_reset(*user, "netvm", x.old);
  }
}

// -- taken over from others -------------------------------------------------------------------

/// Children of a template that never chose a value of their own have another one now.
void announce_to_children(draft& to, const turn& x) {
  if (!changed(x))
    return;
  for (auto child : based_on(to.v, *x.owner))
    if (at_default({to.v, child}, x.name))
      to.tell_reset(*child, x.name);
}

void announce_child_modes(draft& to, const turn& x) {
  announce_bootmodes(to, *x.owner);
}

void announce_layout(draft& to, const turn& x) {
  if (!changed(x))
    return;
  for (auto user : at_default(to.v, "keyboard_layout"))
    if (user != x.owner && read_domain({to.v, user}, "guivm") == x.owner)
      to.tell_reset(*user, "keyboard_layout", x.old);
}

void announce_default_dispvm(draft& to, const turn& x) {
  for (auto user : at_default(to.v, "default_dispvm"))
    to.tell_reset(*user, "default_dispvm", x.old);
}

// -- tags and features that follow ------------------------------------------------------------

/// The domain's tags `PROPERTY-NAME` become the one tag that names the new value. All but guivm's
/// are told again when the value is what it was, as clients know it.
void follow_with_tag(draft& to, const turn& x) {
  auto prefix = fmt::format("{}-", x.name);
  auto wanted = x.next && truthy(*x.next) ? prefix + to_text(*x.next) : std::string{};
  for (auto& tag : x.owner->tags)
    if (tag.starts_with(prefix) && (tag != wanted || x.name != "guivm"))
      to.remove_tag(*x.owner, tag);
  if (!wanted.empty())
    to.add_tag(*x.owner, wanted);
}

/// A default was set: each domain that takes it over behaves as if its own property had been set.
void set_on_users(draft& to, const turn& x, std::string_view property) {
  for (auto user : at_default(to.v, property)) {
    react_to_set(to, {user, property, x.old, x.next});
    to.tell(property_event("property-set", user, property, x.next, x.old));
  }
}

/// A default went back to its own default: only the tags of domains that take it over change.
void retag_users(draft& to, const turn& x, std::string_view property) {
  for (auto user : at_default(to.v, property))
    if (user->is(qubes_vm) && changed(x))
      follow_with_tag(to, {user, property, x.old, x.next});
}

void retag_guivm_of_users(draft& to, const turn& x) {
  retag_users(to, x, "guivm");
}

void retag_audiovm_of_users(draft& to, const turn& x) {
  retag_users(to, x, "audiovm");
}

void set_guivm_of_users(draft& to, const turn& x) {
  set_on_users(to, x, "guivm");
}

void set_audiovm_of_users(draft& to, const turn& x) {
  set_on_users(to, x, "audiovm");
}

/// The clock domain, and only it, offers the time to others.
void move_clock(draft& to, const turn& x) {
  constexpr auto service = std::string_view{"service.clocksync"};
  auto find = [&](const maybe_value& name) {
    return name ? to.v.system.find(to_text(*name)) : nullptr;
  };
  auto from = find(x.old);
  auto here = find(x.next);
  if (from == here)
    return;
  if (here && !here->features.find(service))
    to.set_feature(*here, service, "1");
  if (from && !own_feature(*from, service).value_or("").empty())
    to.remove_feature(*from, service);
}

// -- the table --------------------------------------------------------------------------------

void nothing(draft&, const turn&) {}

struct reaction {
  std::string_view property;
  int holders;
  handler on_set;
  handler on_reset;
};

/// Rows of one property react in their order here. What seems to lack a reset has none in the
/// stock daemon, and clients rely on the events they know.
// clang-format off
constexpr std::array reactions{
  reaction{"label",                  qubes_vm,       announce_icon,           nothing},
  reaction{"template_for_dispvms",   qubes_vm,       announce_icon,           nothing},
  reaction{"provides_network",       qubes_vm,       follow_servicevm,        follow_servicevm},
  reaction{"provides_network",       qubes_vm,       announce_gateways,       nothing},
  reaction{"ip",                     qubes_vm,       announce_ipv4,           announce_ipv4_reset},
  reaction{"ip6",                    qubes_vm,       announce_ipv6,           nothing},
  reaction{"netvm",                  qubes_vm,       remember_while_paused,   announce_netvm},
  reaction{"keyboard_layout",        local_vm,       announce_layout,         nothing},
  reaction{"guivm",                  qubes_vm,       follow_with_tag,         follow_with_tag},
  reaction{"audiovm",                qubes_vm,       follow_with_tag,         follow_with_tag},
  reaction{"relayvm",                remote_vm,      follow_with_tag,         follow_with_tag},
  reaction{"appvm_default_bootmode", template_class, announce_child_modes,    announce_child_modes},
  reaction{"default_user",           template_class, announce_to_children,    nothing},
  reaction{"kernel",                 template_class, announce_to_children,    nothing},
  reaction{"kernelopts",             template_class, announce_to_children,    nothing},
  reaction{"management_dispvm",      template_class, announce_to_children,    nothing},
  reaction{"maxmem",                 template_class, announce_to_children,    nothing},
  reaction{"memory",                 template_class, announce_to_children,    nothing},
  reaction{"qrexec_timeout",         template_class, announce_to_children,    nothing},
  reaction{"shutdown_timeout",       template_class, announce_to_children,    nothing},
  reaction{"vcpus",                  template_class, announce_to_children,    nothing},
  reaction{"clockvm",                global,         move_clock,              nothing},
  reaction{"default_audiovm",        global,         set_audiovm_of_users,    retag_audiovm_of_users},
  reaction{"default_dispvm",         global,         announce_default_dispvm, announce_default_dispvm},
  reaction{"default_guivm",          global,         set_guivm_of_users,      retag_guivm_of_users},
  reaction{"default_netvm",          global,         announce_default_netvm,  nothing},
};
// clang-format on

void react(draft& to, const turn& x, handler reaction::*moment) {
  auto kind = x.owner ? row(x.owner->type).bit : global;
  for (auto& it : reactions)
    if (it.property == x.name && (it.holders & kind))
      (it.*moment)(to, x);
}

} // namespace

void react_to_set(draft& to, const turn& x) {
  react(to, x, &reaction::on_set);
}

void react_to_reset(draft& to, const turn& x) {
  react(to, x, &reaction::on_reset);
}

std::vector<const domain*> at_default(const view& v, std::string_view property) {
  auto result = std::vector<const domain*>{};
  for (auto& x : v.system.domains)
    if (find_property(row(x->type).bit, property) && at_default({v, x.get()}, property))
      result.push_back(x.get());
  return result;
}

void announce_bootmodes(draft& to, const domain& owner) {
  for (auto child : based_on(to.v, owner))
    if (at_default({to.v, child}, "bootmode"))
      to.tell_reset(*child, "bootmode");
}

} // namespace qubes::model
