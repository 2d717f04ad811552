// Setting and resetting properties (spec/properties.md §1.1, §1.2).

#include "model/change/reactions.hpp"
#include "model/property/graph.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace qubes::model {

namespace {

holder holder_of(const domain* owner) {
  return owner ? row(owner->type).bit : global;
}

error unknown_property(const domain* owner, std::string_view name) {
  return no_such_property(holder_of(owner), owner ? owner->name.str() : "", name);
}

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& all, std::string_view name) {
  return std::find(all.begin(), all.end(), name) != all.end();
}

/// Guards of these properties refuse after the request was announced; other guards refuse before an
/// event is sent.
constexpr auto announced_first = std::array<std::string_view, 5>{
    "default_kernel", "kernel", "maxmem", "template", "template_for_dispvms"};

/// Guards of these properties look at the moment, not at the result; a reset counts from the next
/// start.
constexpr auto free_to_reset = std::array<std::string_view, 1>{"maxmem"};

outcome<void> guard(const subject& who, const property& row, const maybe_value& next) {
  return row.guard && next ? row.guard(who, *next) : outcome<void>{};
}

// -- what may refuse once the request is announced -----------------------------------------------

outcome<void> must_be_halted(const view& v, const domain& owner, std::string_view name) {
  if (power_of(v, owner) == power::halted)
    return {};
  return fail(errc::vm_not_halted,
              fmt::format("{} of '{}' cannot change while it runs", name, owner.name.str()),
              "shut it down first");
}

/// A running domain cannot be attached to a network that is not there.
outcome<void> netvm_must_run(const view& v, const domain& owner, const maybe_value& next) {
  auto netvm = next ? v.system.find(to_text(*next)) : nullptr;
  if (!netvm || !is_running(v, owner) || is_running(v, *netvm))
    return {};
  return fail(errc::vm_not_started,
              fmt::format("'{}' runs and cannot be connected to '{}', which does not",
                          owner.name.str(), netvm->name.str()),
              fmt::format("start '{}' first", netvm->name.str()));
}

/// Domains that take the default over hear of it first, and those that run may object.
outcome<void> announce_to_netvm_users(draft& to, const turn& x) {
  for (auto user : at_default(to.v, "netvm")) {
    to.announce(property_event("property-pre-set", user, "netvm", x.next, x.old));
    if (user->is(template_class))
      continue; // has no default but none, whatever the event says
    if (auto allowed = netvm_must_run(to.v, *user, x.next); !allowed)
      return allowed;
  }
  return {};
}

outcome<void> allow_set(draft& to, const turn& x, const property& row) {
  if (row.when == settable::halted)
    if (auto halted = must_be_halted(to.v, *x.owner, x.name); !halted)
      return halted;
  if (contains(announced_first, x.name))
    return guard({to.v, x.owner}, row, x.next);
  if (x.owner && x.name == "netvm")
    return netvm_must_run(to.v, *x.owner, x.next);
  if (!x.owner && x.name == "default_netvm")
    return announce_to_netvm_users(to, x);
  return {};
}

outcome<void> allow_reset(draft& to, const turn& x, const property& row) {
  if (x.owner && x.name == "template")
    return fail(errc::value, fmt::format("'{}' needs a template", x.owner->name.str()),
                "set another one instead");
  if (contains(free_to_reset, x.name))
    return {};
  if (auto sound = guard({to.v, x.owner}, row, x.next); !sound)
    return sound;
  if (x.name != "netvm" || x.next == x.old)
    return {};
  to.announce(property_event("property-pre-set", x.owner, x.name, x.next, x.old));
  return netvm_must_run(to.v, *x.owner, x.next);
}

const value* stored_value(const view& v, const domain* owner, std::string_view name) {
  auto& all = owner ? owner->properties : v.system.globals;
  auto found = all.find(name);
  return found == all.end() ? nullptr : &found->second;
}

std::string name_of(const domain* owner) {
  return owner ? owner->name.str() : std::string{};
}

void store(draft& to, const turn& x) {
  auto now = stored_value(to.v, x.owner, x.name);
  auto again = x.name == "netvm"; // to set the same one asks for a new connection
  if (!now || *now != *x.next || again)
    to.edit(set_property{name_of(x.owner), std::string{x.name}, *x.next});
}

void forget(draft& to, const turn& x) {
  if (stored_value(to.v, x.owner, x.name))
    to.edit(reset_property{name_of(x.owner), std::string{x.name}});
}

} // namespace

plan plan_set_property(const view& v, const domain* owner, std::string_view name,
                       std::string_view text) {
  auto who = subject{v, owner};
  auto row = find_property(holder_of(owner), name);
  if (!row)
    return draft::refuse_quietly(unknown_property(owner, name));
  auto next = parse_property(who, *row, text);
  if (!next)
    return draft::refuse_quietly(std::move(next.error()));
  if (!contains(announced_first, name))
    if (auto sound = guard(who, *row, *next); !sound)
      return draft::refuse_quietly(std::move(sound.error()));

  auto to = draft{v};
  auto x = turn{owner, row->name, read(who, name), std::move(*next)};
  to.announce(property_event("property-pre-set", owner, name, x.next, x.old));
  if (auto allowed = allow_set(to, x, *row); !allowed)
    return std::move(to).refuse(std::move(allowed.error()));
  store(to, x);
  react_to_set(to, x);
  to.tell(property_event("property-set", owner, name, x.next, x.old));
  return std::move(to).finish();
}

plan plan_reset_property(const view& v, const domain* owner, std::string_view name) {
  auto who = subject{v, owner};
  auto row = find_property(holder_of(owner), name);
  if (!row)
    return draft::refuse_quietly(unknown_property(owner, name));
  if (row->when == settable::once && !at_default(who, name))
    return draft::refuse_quietly(
        {errc::no_such_property,
         fmt::format("{} of '{}' is set once, at creation", name, name_of(owner)), ""});

  auto to = draft{v};
  auto x = turn{owner, row->name, read(who, name), read_default(who, name)};
  to.announce(property_event("property-pre-reset", owner, name, {}, x.old));
  if (auto allowed = allow_reset(to, x, *row); !allowed)
    return std::move(to).refuse(std::move(allowed.error()));
  to.announce(property_event("property-pre-del", owner, name, {}, x.old));
  forget(to, x);
  react_to_reset(to, x);
  to.tell(property_event("property-reset", owner, name, {}, x.old));
  to.tell(property_event("property-del", owner, name, {}, x.old));
  return std::move(to).finish();
}

} // namespace qubes::model
