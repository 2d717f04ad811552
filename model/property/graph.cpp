#include "model/property/graph.hpp"

#include "model/property/default_rules.hpp"
#include "model/property/property.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace qubes::model {

namespace {

template <class Predicate>
std::vector<const domain*> domains_where(const view& v, Predicate matches) {
  auto result = std::vector<const domain*>{};
  for (auto& x : v.system.domains)
    if (matches(*x))
      result.push_back(x.get());
  return result;
}

bool names(const value& x, const domain& target) {
  auto name = std::get_if<std::string>(&x);
  return name && *name == target.name.str();
}

/// References of a preloaded disposable do not keep its template (spec/vm-classes.md §6).
bool is_exempt(const view& v, const domain& owner, const domain& target,
               std::string_view property) {
  if (!owner.is(disp_vm) || template_of(v, owner) != &target || !is_preload(v, owner))
    return false;
  return property == "template" || property == "default_dispvm" || property == "management_dispvm";
}

void add_global_uses(const view& v, const domain& target, std::vector<use>& result) {
  for (auto row : properties_of(global))
    if (row->type == wire_type::domain)
      if (auto now = read({v, nullptr}, row->name); now && names(*now, target))
        result.push_back({"@GLOBAL", std::string{row->name}});
}

void add_domain_uses(const view& v, const domain& owner, const domain& target,
                     std::vector<use>& result) {
  for (auto row : properties_of(model::row(owner.type).bit)) {
    if (row->type != wire_type::domain)
      continue;
    auto stored = owner.properties.find(row->name);
    if (stored != owner.properties.end() && names(stored->second, target)
        && !is_exempt(v, owner, target, row->name))
      result.push_back({owner.name, std::string{row->name}});
  }
}

} // namespace

const domain* netvm_of(const view& v, const domain& x) {
  return x.is(qubes_vm) ? read_domain({v, &x}, "netvm") : nullptr;
}

bool provides_network(const view& v, const domain& x) {
  return x.is(qubes_vm) && read_bool({v, &x}, "provides_network");
}

const domain* template_of(const view& v, const domain& x) {
  if (!x.is(template_based))
    return nullptr;
  auto found = read_domain({v, &x}, "template");
  // Only these classes may be a template, which also makes chains end.
  auto allowed = x.is(app_vm) ? template_class : template_class | app_vm | standalone_vm;
  return found && found->is(static_cast<holder>(allowed)) ? found : nullptr;
}

std::vector<const domain*> connected_to(const view& v, const domain& netvm) {
  return domains_where(v, [&](const domain& x) { return netvm_of(v, x) == &netvm; });
}

std::vector<const domain*> downstream_of(const view& v, const domain& netvm) {
  auto result = std::vector<const domain*>{};
  auto seen = std::set<const domain*>{};
  auto add_clients = [&](const domain& x) {
    for (auto client : connected_to(v, x))
      if (seen.insert(client).second)
        result.push_back(client);
  };
  add_clients(netvm);
  for (auto i = std::size_t{0}; i < result.size(); ++i)
    add_clients(*result[i]);
  return result;
}

std::vector<const domain*> based_on(const view& v, const domain& x) {
  return domains_where(v, [&](const domain& y) { return template_of(v, y) == &x; });
}

std::vector<use> uses_of(const view& v, const domain& x) {
  auto result = std::vector<use>{};
  add_global_uses(v, x, result);
  for (auto& owner : v.system.domains)
    if (owner.get() != &x)
      add_domain_uses(v, *owner, x, result);
  return result;
}

std::vector<std::vector<const domain*>> by_network_rank(const view& v,
                                                        const std::vector<const domain*>& some) {
  auto members = std::set<const domain*>(some.begin(), some.end());
  auto rank_of = [&](const domain& x) {
    auto rank = std::size_t{0};
    auto seen = std::set<const domain*>{&x};
    for (auto at = netvm_of(v, x); at && seen.insert(at).second; at = netvm_of(v, *at))
      rank += members.count(at);
    return rank;
  };
  auto ranks = std::map<std::size_t, std::vector<const domain*>>{};
  for (auto x : members)
    ranks[rank_of(*x)].push_back(x);

  auto result = std::vector<std::vector<const domain*>>{};
  for (auto& [rank, group] : ranks) {
    std::sort(group.begin(), group.end(), [](const domain* a, const domain* b) {
      return listed_before(a->name.str(), b->name.str());
    });
    result.push_back(std::move(group));
  }
  return result;
}

bool is_passing(const view& v, const domain& x) {
  return x.is(disp_vm) && read_bool({v, &x}, "auto_cleanup");
}

} // namespace qubes::model
