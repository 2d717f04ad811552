// Names of properties, and what each may be.
#include "bin/qvmctl/completion_sources.hpp"
#include "model/base/hypervisor_kind.hpp"
#include "model/property/property.hpp"
#include "model/property/property_checks.hpp"

#include <algorithm>
#include <array>

namespace qubes::ctl {

namespace {

candidates kernels(const place& at) {
  auto pools = lines_of(at.ask({.method = "admin.pool.List"}));
  auto asked = std::vector<request>{};
  for (auto& x : pools)
    asked.push_back({"admin.pool.Info", x, "dom0", ""});
  auto facts = at.ask(asked);
  asked.clear();
  for (auto i = std::size_t{0}; i < pools.size(); ++i)
    if (value_of(pairs_of(facts[i]), "driver") == "linux-kernel")
      asked.push_back({"admin.pool.volume.List", pools[i], "dom0", ""});
  auto result = candidates{};
  for (auto& x : at.ask(asked))
    std::ranges::move(firsts(x), std::back_inserter(result));
  return result;
}

candidates virt_modes(const place&) {
  auto result = candidates{};
  for (auto& x : model::virt_mode_rows)
    result.push_back({std::string{x.name}});
  return result;
}

/// What a property may be follows from what it is checked by.
struct check_row {
  model::check_rule check;
  source values;
};

const std::array check_table{
    check_row{model::checks::boolean, booleans},
    check_row{model::checks::label, labels},
    check_row{model::checks::pool, pools},
    check_row{model::checks::kernel_name, kernels},
    check_row{model::checks::virt_mode, virt_modes},
    check_row{model::checks::local_domain, [](const place& at) { return or_none(domains(at)); }},
    check_row{model::checks::template_domain,
              [](const place& at) { return or_none(templates(at)); }},
    check_row{model::checks::disposable_template,
              [](const place& at) { return or_none(disposable_templates(at)); }},
    check_row{model::checks::own_template, templates},
    check_row{model::checks::own_disposable_template, disposable_templates},
};

} // namespace

candidates values_of_property(const std::string& name, const place& at) {
  if (name == "netvm" || name == "default_netvm")
    return netvms(at);
  auto result = candidates{};
  for (auto& row : model::property_table())
    for (auto& x : check_table)
      if (row.name == name && x.check == row.check && result.empty())
        result = x.values(at);
  return result;
}

candidates all_properties() {
  auto result = candidates{};
  for (auto& x : model::property_table())
    result.push_back({std::string{x.name}, std::string{x.help}});
  return result;
}

candidates property_names(const place& at) {
  auto live = lines_of(at.ask(property_request("List", at.word(0), "")));
  auto result = candidates{};
  for (auto& x : model::property_table()) {
    auto there = std::ranges::find(live, x.name) != live.end();
    if (there && (x.when != model::settable::never || at.line.what->name == "get"))
      result.push_back({std::string{x.name}, std::string{x.help}});
  }
  return result;
}

candidates assigned_properties(const place& at) {
  if (auto is = at.typed.find('='); is != at.typed.npos) {
    auto result = values_of_property(property_name(std::string{at.typed.substr(0, is)}), at);
    for (auto& x : result)
      x.word.insert(0, at.typed.substr(0, is + 1));
    return result;
  }
  auto result = all_properties();
  for (auto& x : result)
    x.word += '=';
  return result;
}

} // namespace qubes::ctl
