#include "model/change/integrity.hpp"

#include "model/base/literal.hpp"
#include "model/change/change.hpp"
#include "model/device/assignment_rules.hpp"
#include "model/property/feature_rules.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

namespace qubes::model {

namespace {

constexpr auto passing = std::string_view{"is removed when it stops"};
constexpr auto at_host = std::string_view{"@GLOBAL"};

std::string name_of(const subject& who) {
  return who.owner ? fmt::format("'{}'", who.owner->name.str()) : "the host";
}

const value* stored_value(const subject& who, std::string_view name) {
  auto& all = who.owner ? who.owner->properties : who.view.system.globals;
  auto found = all.find(name);
  return found == all.end() ? nullptr : &found->second;
}

/// The domain a stored property names; null for none.
const domain* named_domain(const subject& who, std::string_view property) {
  auto stored = stored_value(who, property);
  auto name = stored ? std::get_if<std::string>(stored) : nullptr;
  return name ? who.view.system.find(*name) : nullptr;
}

tl::unexpected<error> unfit(const subject& who, std::string_view property, std::string_view reason,
                            std::string hint = {}) {
  return fail(errc::property_value, fmt::format("{} of {}: {}", property, name_of(who), reason),
              std::move(hint));
}

// -- rules of single properties ---------------------------------------------------------------

/// True when the way from `start` through the netvms comes back to it.
bool comes_back(const view& v, const domain& start) {
  auto steps = v.system.domains.size();
  for (auto at = netvm_of(v, start); at && steps > 0; at = netvm_of(v, *at), --steps)
    if (at == &start)
      return true;
  return false;
}

outcome<void> no_loop(const subject& who) {
  if (!who.owner || !comes_back(who.view, *who.owner))
    return {};
  return fail(errc::value,
              fmt::format("netvm of {} would lead back to it: networks cannot loop", name_of(who)),
              "choose a domain that does not use this one, or none");
}

outcome<void> no_loop_by_default(const subject& who) {
  auto target = named_domain(who, "default_netvm");
  if (!target || !comes_back(who.view, *target))
    return {};
  return unfit(who, "default_netvm",
               fmt::format("'{}' itself gets its network from the default", target->name.str()),
               "set its netvm first");
}

outcome<void> can_be_netvm(const subject& who, std::string_view property) {
  auto target = named_domain(who, property);
  if (!target || target->is(qubes_vm))
    return {};
  return unfit(who, property, fmt::format("'{}' has no network", target->name.str()));
}

outcome<void> netvm_fits(const subject& who) {
  return can_be_netvm(who, "netvm").and_then([&] { return no_loop(who); });
}

outcome<void> default_netvm_fits(const subject& who) {
  return can_be_netvm(who, "default_netvm").and_then([&] { return no_loop_by_default(who); });
}

bool serves_disposables(const view& v, const domain& x) {
  return read_bool({v, &x}, "template_for_dispvms");
}

outcome<void> is_disposable_template(const subject& who, std::string_view property) {
  auto target = named_domain(who, property);
  if (!target || serves_disposables(who.view, *target))
    return {};
  return unfit(who, property, fmt::format("'{}' is no disposable template", target->name.str()),
               "set its template_for_dispvms first");
}

outcome<void> default_dispvm_fits(const subject& who) {
  return is_disposable_template(who, "default_dispvm");
}

outcome<void> management_dispvm_fits(const subject& who) {
  return is_disposable_template(who, "management_dispvm");
}

outcome<void> template_fits(const subject& who) {
  auto target = named_domain(who, "template");
  if (!target)
    return fail(errc::value, fmt::format("{} needs a template", name_of(who)));
  if (who.owner->is(disp_vm))
    return is_disposable_template(who, "template");
  if (target->is(template_class))
    return {};
  return unfit(who, "template", fmt::format("'{}' is no TemplateVM", target->name.str()));
}

outcome<void> default_template_fits(const subject& who) {
  auto target = named_domain(who, "default_template");
  if (!target || target->is(template_class))
    return {};
  return unfit(who, "default_template", fmt::format("'{}' is no TemplateVM", target->name.str()));
}

outcome<void> pool_exists(const subject& who, std::string_view property) {
  auto stored = stored_value(who, property);
  if (!stored || who.view.system.find_pool(to_text(*stored)))
    return {};
  return unfit(who, property, fmt::format("there is no pool '{}'", to_text(*stored)));
}

struct rule {
  std::string_view property;
  outcome<void> (*check)(const subject&);
};

// clang-format off
constexpr std::array rules{
  rule{"netvm",             netvm_fits},
  rule{"default_netvm",     default_netvm_fits},
  rule{"template",          template_fits},
  rule{"default_template",  default_template_fits},
  rule{"default_dispvm",    default_dispvm_fits},
  rule{"management_dispvm", management_dispvm_fits},
};
// clang-format on

// -- rules of types ---------------------------------------------------------------------------

bool is_long_integer(const value& x) {
  auto digits = std::get_if<std::string>(&x);
  return digits && is_integer(*digits);
}

bool has_type(wire_type type, const value& x) {
  if (std::holds_alternative<none>(x))
    return type != wire_type::boolean && type != wire_type::label;
  switch (type) {
  case wire_type::integer: return std::holds_alternative<std::int64_t>(x) || is_long_integer(x);
  case wire_type::boolean: return std::holds_alternative<bool>(x);
  default: return std::holds_alternative<std::string>(x);
  }
}

outcome<void> reference_fits(const subject& who, const property& row, const std::string& name) {
  auto target = who.view.system.find(name);
  if (!target)
    return unfit(who, row.name, fmt::format("there is no domain '{}'", name));
  if (target->is(remote_vm))
    return unfit(who, row.name, fmt::format("'{}' is on another machine", name));
  if (is_passing(who.view, *target))
    return unfit(who, row.name, fmt::format("'{}' {}", name, passing),
                 "reset its auto_cleanup first, or choose a domain that stays");
  return {};
}

outcome<void> label_fits(const subject& who, const std::string& name) {
  if (who.view.system.find_label(name))
    return {};
  return fail(errc::label_not_found,
              fmt::format("label of {}: there is no '{}'", name_of(who), name));
}

bool names_pool(std::string_view property) {
  return property.starts_with("default_pool");
}

outcome<void> type_fits(const subject& who, const property& row, const value& x) {
  if (!has_type(row.type, x))
    return unfit(who, row.name, fmt::format("'{}' has the wrong type", to_text(x)));
  auto text = std::get_if<std::string>(&x);
  if (row.type == wire_type::domain && text)
    return reference_fits(who, row, *text);
  if (row.type == wire_type::label && text)
    return label_fits(who, *text);
  if (!who.owner && names_pool(row.name))
    return pool_exists(who, row.name);
  return {};
}

// -- users ------------------------------------------------------------------------------------

bool names(const value& x, std::string_view name) {
  auto text = std::get_if<std::string>(&x);
  return text && *text == name;
}

void add_users(const properties& all, std::string_view owner, holder who, wire_type type,
               std::string_view name, std::vector<use>& result) {
  for (auto& [property, x] : all)
    if (names(x, name))
      if (auto row = find_property(who, property); row && row->type == type)
        result.push_back({std::string{owner}, property});
}

std::vector<use> users_by(const system& all, wire_type type, std::string_view name) {
  auto result = std::vector<use>{};
  add_users(all.globals, at_host, global, type, name, result);
  for (auto& x : all.domains)
    if (x->name != name || type == wire_type::label)
      add_users(x->properties, x->name.str(), row(x->type).bit, type, name, result);
  return result;
}

void add_device_users(const system& all, std::string_view name, std::vector<use>& result) {
  for (auto& x : all.domains)
    for (auto& kind : x->devices)
      for (auto& it : kind.assignments)
        if (it.backend == name && x->name != name)
          result.push_back({x->name, fmt::format("{} device {}", kind.name, it.port)});
}

// -- records that are set aside ----------------------------------------------------------------

std::string aside(const quarantined& x) {
  return x.name + " (set aside from qubes.xml)";
}

void add_users_aside(const system& all,
                     std::vector<std::pair<std::string, std::string>> reservation::*names,
                     std::string_view name, std::vector<use>& result) {
  for (auto& x : all.quarantine)
    for (auto& [by, what] : x.holds.*names)
      if (what == name && x.name != name)
        result.push_back({aside(x), by});
}

std::optional<std::string> clash_aside(const system& all, const domain& x) {
  for (auto& it : all.quarantine) {
    if (it.where != section::domains)
      continue;
    auto taken = [&](std::string_view what) {
      return fmt::format("{} of '{}' belongs to {}, which is set aside from qubes.xml", what,
                         x.name.str(), quoted(it.name));
    };
    if (it.name == x.name.str())
      return taken("the name");
    if (it.holds.number == x.qid)
      return taken(fmt::format("qid {}", x.qid));
    if (it.holds.uuid == x.uuid)
      return taken(fmt::format("uuid {}", x.uuid));
  }
  return std::nullopt;
}

// -- whole systems ----------------------------------------------------------------------------

outcome<void> volumes_are_sound(const view& v, const domain& x) {
  for (auto& it : x.volumes)
    if (auto home = v.system.find_pool(it.pool))
      if (auto sound = check_volume(*home, it); !sound)
        return sound;
  return {};
}

outcome<void> tags_are_sound(const domain& x) {
  for (auto& tag : x.tags)
    if (auto sound = check_tag(tag); !sound)
      return sound;
  return {};
}

outcome<void> features_are_sound(const domain& x) {
  for (auto& [name, text] : x.features)
    if (auto sound = check_feature_text(x, name, text); !sound)
      return sound;
  return {};
}

/// Adds the refusal's sentence, if any.
void note(const outcome<void>& x, std::vector<std::string>& to) {
  if (!x)
    to.push_back(x.error().text);
}

template <class Key>
void note_twins(const system& x, std::string_view what, Key key, std::vector<std::string>& to) {
  auto seen = std::set<std::decay_t<decltype(key(*x.domains.front()))>>{};
  for (auto& d : x.domains)
    if (!seen.insert(key(*d)).second)
      to.push_back(fmt::format("{} '{}' belongs to two domains", what, key(*d)));
}

void note_order(const system& x, std::vector<std::string>& to) {
  if (x.domains.empty() || !x.domains.front()->name.is_dom0())
    to.push_back("there is no dom0");
  for (auto i = std::size_t{1}; i < x.domains.size(); ++i)
    if (!listed_before(x.domains[i - 1]->name.str(), x.domains[i]->name.str()))
      to.push_back(fmt::format("domain '{}' is out of order", x.domains[i]->name.str()));
}

void note_labels(const system& x, std::vector<std::string>& to) {
  for (auto i = std::size_t{1}; i < x.labels.size(); ++i) {
    if (x.labels[i - 1].index >= x.labels[i].index)
      to.push_back(fmt::format("label '{}' is out of order", x.labels[i].name));
    for (auto j = std::size_t{0}; j < i; ++j)
      if (x.labels[j].name == x.labels[i].name)
        to.push_back(fmt::format("label '{}' stands twice", x.labels[i].name));
  }
}

/// Every stored property and every rule of one holder, e.g. of the host.
void note_properties(const subject& who, std::vector<std::string>& to) {
  auto kind = who.owner ? row(who.owner->type).bit : global;
  auto& all = who.owner ? who.owner->properties : who.view.system.globals;
  for (auto& [name, x] : all)
    if (auto it = find_property(kind, name); !it)
      to.push_back(fmt::format("{} has no property '{}'", name_of(who), name));
    else
      note(type_fits(who, *it, x), to);
  for (auto& it : rules)
    if (find_property(kind, it.property))
      note(it.check(who), to);
}

} // namespace

const live_board& no_live_facts() {
  static const auto board = live_board{};
  return board;
}

bool is_identity(std::string_view property) noexcept {
  return property == "name" || property == "qid" || property == "uuid";
}

std::optional<std::string> clash_of(const system& all, const domain& x) {
  if (all.find(x.name.str()))
    return fmt::format("there is already a domain '{}'", x.name.str());
  if (auto other = all.find_qid(x.qid))
    return fmt::format("qid {} of '{}' belongs to '{}'", x.qid, x.name.str(), other->name.str());
  if (auto other = all.find_uuid(x.uuid))
    return fmt::format("uuid {} of '{}' belongs to '{}'", x.uuid, x.name.str(), other->name.str());
  return clash_aside(all, x);
}

outcome<void> check_stored(const subject& who, const property& row) {
  if (auto stored = stored_value(who, row.name))
    if (auto sound = type_fits(who, row, *stored); !sound)
      return sound;
  for (auto& it : rules)
    if (it.property == row.name)
      return it.check(who);
  return {};
}

outcome<void> check_record(const view& v, const domain& x) {
  auto kind = row(x.type).bit;
  for (auto& [name, stored] : x.properties) {
    auto it = find_property(kind, name);
    if (!it)
      return tl::unexpected{no_such_property(kind, x.name.str(), name)};
    if (auto sound = check_stored({v, &x}, *it); !sound)
      return sound;
  }
  if (x.is(template_based) && !x.properties.contains("template"))
    return template_fits({v, &x});
  if (auto sound = tags_are_sound(x); !sound)
    return sound;
  if (auto sound = features_are_sound(x); !sound)
    return sound;
  if (auto sound = check_assignments(v, x); !sound)
    return sound;
  return volumes_are_sound(v, x);
}

outcome<void> check_assignments(const view& v, const domain& x) {
  for (auto& kind : x.devices)
    for (auto& it : kind.assignments) {
      if (!it.backend.empty() && !v.system.find(it.backend))
        return fail(errc::vm_not_found, fmt::format("{} device {} of '{}': there is no domain '{}'",
                                                    kind.name, it.port, x.name.str(), it.backend));
      if (auto sound = check_assignment(v, x, kind.name, it); !sound)
        return sound;
    }
  return {};
}

outcome<void> check_provider(const subject& who) {
  auto target = who.owner ? netvm_of(who.view, *who.owner) : nullptr;
  if (!target || provides_network(who.view, *target))
    return {};
  return fail(
      errc::value,
      fmt::format("netvm of {}: '{}' does not provide network", name_of(who), target->name.str()),
      "set its provides_network first");
}

std::string_view why_unused(const view& v, const domain& x, std::string_view property) {
  if ((property == "netvm" || property == "default_netvm") && !x.is(qubes_vm))
    return "has no network";
  return is_passing(v, x) ? passing : "";
}

outcome<void> check_stays(const subject& who) {
  if (!who.owner || !is_passing(who.view, *who.owner))
    return {};
  auto users = users_of_domain(who.view.system, who.owner->name.str());
  if (users.empty())
    return {};
  return fail(errc::value,
              fmt::format("{} must stay: '{}' uses it as {}{}", name_of(who), users.front().owner,
                          users.front().property,
                          users.size() > 1 ? fmt::format(", and {} more", users.size() - 1) : ""),
              "change that first");
}

outcome<void> check_clients(const subject& who) {
  if (!who.owner || (provides_network(who.view, *who.owner) && !is_passing(who.view, *who.owner)))
    return {};
  auto clients = connected_to(who.view, *who.owner);
  if (clients.empty())
    return {};
  return fail(
      errc::value,
      fmt::format("{} must provide network and stay: '{}' uses it{}", name_of(who),
                  clients.front()->name.str(),
                  clients.size() > 1 ? fmt::format(" and {} more", clients.size() - 1) : ""),
      "change their netvm first");
}

std::vector<use> misplaced_disposable_users(const subject& who) {
  auto result = std::vector<use>{};
  if (!who.owner || serves_disposables(who.view, *who.owner))
    return result;
  for (auto& it : users_by(who.view.system, wire_type::domain, who.owner->name.str()))
    if (it.property == "default_dispvm" || it.property == "management_dispvm"
        || it.property == "template")
      result.push_back(it);
  return result;
}

std::vector<use> users_of_label(const system& all, std::string_view name) {
  auto result = users_by(all, wire_type::label, name);
  for (auto& x : all.quarantine)
    if (x.where == section::domains && x.holds.label == name)
      result.push_back({aside(x), "label"});
  return result;
}

std::vector<use> users_of_domain(const system& all, std::string_view name) {
  auto result = users_by(all, wire_type::domain, name);
  add_device_users(all, name, result);
  add_users_aside(all, &reservation::domains, name, result);
  return result;
}

std::vector<std::string> violations(const system& x, const host& machine) {
  auto broken = std::vector<std::string>{};
  auto v = view{x, no_live_facts(), machine};
  note_labels(x, broken);
  note_order(x, broken);
  note_twins(
      x, "name", [](const domain& d) { return d.name.str(); }, broken);
  note_twins(
      x, "qid", [](const domain& d) { return d.qid; }, broken);
  note_twins(
      x, "uuid", [](const domain& d) { return d.uuid; }, broken);
  note_properties({v, nullptr}, broken);
  for (auto& d : x.domains) {
    note_properties({v, d.get()}, broken);
    note(tags_are_sound(*d), broken);
    note(features_are_sound(*d), broken);
    note(check_assignments(v, *d), broken);
    note(volumes_are_sound(v, *d), broken);
  }
  return broken;
}

std::vector<use> users_of_pool(const view& v, std::string_view name) {
  auto result = std::vector<use>{};
  for (auto property : {"default_pool", "default_pool_kernel", "default_pool_private",
                        "default_pool_root", "default_pool_volatile"})
    if (read_text({v, nullptr}, property) == name)
      result.push_back({"@GLOBAL", property});
  for (auto& x : v.system.domains)
    for (auto& it : x->volumes)
      if (it.pool == name)
        result.push_back({x->name.str(), it.name});
  add_users_aside(v.system, &reservation::pools, name, result);
  return result;
}

std::vector<use> users_set_aside(const system& all, std::string_view name) {
  auto result = std::vector<use>{};
  add_users_aside(all, &reservation::domains, name, result);
  return result;
}

} // namespace qubes::model
