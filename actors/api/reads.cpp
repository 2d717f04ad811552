#include "actors/api/reads.hpp"

#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/change/plan_storage.hpp"
#include "model/device/device.hpp"
#include "model/policy/permission.hpp"
#include "model/property/feature.hpp"
#include "model/property/property.hpp"
#include "model/storage/pool_driver.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

namespace qubes::actors::reads {

using model::errc;
using model::outcome;

namespace {

outcome<std::string> lines(const auto& names) {
  auto result = std::string{};
  for (auto& name : names) {
    result += name;
    result += '\n';
  }
  return result;
}

} // namespace

outcome<std::string> classes(const call&) {
  auto names = std::vector<std::string_view>{};
  for (auto& x : model::klass_rows)
    names.push_back(x.name);
  std::ranges::sort(names);
  return lines(names);
}

outcome<std::string> device_classes(const call& x) {
  auto names = std::vector<std::string_view>{};
  for (auto& kind : model::device_kinds)
    if (is_there(kind, *x.now.machine))
      names.push_back(kind.name);
  return lines(names);
}

outcome<std::string> domains(const call& x) {
  auto result = std::string{};
  auto policy = x.in.policy.read();
  auto seen = model::sight{*policy, x.view(), x.source};
  auto add = [&](const model::domain& d) {
    if (seen.of(d))
      fmt::format_to(std::back_inserter(result), "{} class={} state={} uuid={}\n", d.name.str(),
                     model::row(d.type).name, wire_name(model::power_of(x.view(), d)), d.uuid);
  };
  if (!x.destination.name.is_dom0()) {
    add(x.destination);
    return result;
  }
  result.reserve(x.now.system->domains.size() * 90);
  for (auto& d : x.now.system->domains)
    add(*d);
  return result;
}

// -- labels ---------------------------------------------------------------------------------------

namespace {

outcome<const model::label*> label(const call& x) {
  auto& name = x.request.argument;
  if (auto fine = model::check_label_name(name, false); !fine)
    return tl::unexpected{fine.error()};
  if (auto* found = x.now.system->find_label(name))
    return found;
  auto digits = std::ranges::all_of(name, model::is_digit);
  if (digits && name.size() < 9)
    if (auto* found = x.now.system->find_label(std::stoi(name)))
      return found;
  return model::fail(errc::label_not_found, fmt::format("no such label: {}", model::quoted(name)));
}

} // namespace

outcome<std::string> labels(const call& x) {
  auto names = std::vector<std::string_view>{};
  for (auto& l : x.now.system->labels)
    names.push_back(l.name);
  return lines(names);
}

outcome<std::string> label_color(const call& x) {
  return label(x).map([](auto* l) { return l->color; });
}

outcome<std::string> label_index(const call& x) {
  return label(x).map([](auto* l) { return std::to_string(l->index); });
}

// -- properties -----------------------------------------------------------------------------------

namespace {

/// The destination, or the host: what differs between the two families of methods.
struct holder {
  model::holder kind;
  model::subject about;
  std::string_view name;
};

holder vm(const call& x) {
  return {model::row(x.destination.type).bit, x.about(), x.destination.name.str()};
}

holder host(const call& x) {
  return {model::global, {x.view(), nullptr}, "the host"};
}

using shown = std::string (*)(const model::subject&, const model::property&);

outcome<std::string> one(const call& x, const holder& of, shown show) {
  auto* row = model::find_property(of.kind, x.request.argument);
  if (!row)
    return tl::unexpected{model::no_such_property(of.kind, of.name, x.request.argument)};
  return show(of.about, *row);
}

outcome<std::string> names(const holder& of) {
  auto result = std::string{};
  for (auto* row : model::properties_of(of.kind)) {
    result += row->name;
    result += '\n';
  }
  return result;
}

/// `\` and newline are escaped in the part after the name (spec/admin-api.md B2).
void append_escaped(std::string& to, std::string_view text) {
  for (auto c : text) {
    if (c == '\\')
      to += "\\\\";
    else if (c == '\n')
      to += "\\n";
    else
      to += c;
  }
}

outcome<std::string> all(const holder& of) {
  auto result = std::string{};
  for (auto* row : model::properties_of(of.kind)) {
    result += row->name;
    result += ' ';
    append_escaped(result, model::describe(of.about, *row));
    result += '\n';
  }
  return result;
}

std::string help(const model::subject&, const model::property& x) {
  return std::string{x.help};
}

} // namespace

outcome<std::string> vm_properties(const call& x) {
  return names(vm(x));
}
outcome<std::string> vm_property(const call& x) {
  return one(x, vm(x), model::describe);
}
outcome<std::string> vm_property_default(const call& x) {
  return one(x, vm(x), model::describe_default);
}
outcome<std::string> vm_property_help(const call& x) {
  return one(x, vm(x), help);
}
outcome<std::string> vm_all_properties(const call& x) {
  return all(vm(x));
}
outcome<std::string> host_properties(const call& x) {
  return names(host(x));
}
outcome<std::string> host_property(const call& x) {
  return one(x, host(x), model::describe);
}
outcome<std::string> host_property_default(const call& x) {
  return one(x, host(x), model::describe_default);
}
outcome<std::string> host_property_help(const call& x) {
  return one(x, host(x), help);
}
outcome<std::string> host_all_properties(const call& x) {
  return all(host(x));
}

// -- features and tags ----------------------------------------------------------------------------

namespace {

outcome<std::string> feature_by(const call& x, model::chain how) {
  auto& name = x.request.argument;
  if (auto* found = model::find_feature(x.view(), x.destination, name, how))
    return *found;
  return model::fail(
      errc::feature_not_found,
      fmt::format("'{}' has no feature {}", x.destination.name.str(), model::quoted(name)));
}

} // namespace

outcome<std::string> features(const call& x) {
  auto result = std::string{};
  for (auto& [name, text] : x.destination.features) {
    result += name;
    result += '\n';
  }
  return result;
}

outcome<std::string> feature(const call& x) {
  return feature_by(x, model::chain::own);
}
outcome<std::string> feature_with_template(const call& x) {
  return feature_by(x, model::chain::with_template);
}
outcome<std::string> feature_with_netvm(const call& x) {
  return feature_by(x, model::chain::with_netvm);
}
outcome<std::string> feature_with_adminvm(const call& x) {
  return feature_by(x, model::chain::with_adminvm);
}
outcome<std::string> feature_with_template_and_adminvm(const call& x) {
  return feature_by(x, model::chain::with_template_and_adminvm);
}

outcome<std::string> tags(const call& x) {
  return lines(x.destination.tags);
}

outcome<std::string> tag(const call& x) {
  if (auto fine = model::check_tag(x.request.argument); !fine)
    return tl::unexpected{fine.error()};
  return x.destination.tags.contains(x.request.argument) ? "1" : "0";
}

// -- devices --------------------------------------------------------------------------------------

outcome<std::string> assigned(const call& x, std::string_view kind) {
  if (auto sound = model::check_port(x.request.argument); !sound)
    return tl::unexpected{std::move(sound.error())};
  auto lines = std::vector<std::string>{};
  for (auto& all : x.destination.devices)
    for (auto& it : all.assignments)
      if (all.name == kind
          && (x.request.argument.empty() || x.request.argument == it.backend + '+' + it.port))
        lines.push_back(print_assigned(kind, it));
  std::ranges::sort(lines);
  return fmt::format("{}", fmt::join(lines, ""));
}

outcome<std::string> denied_interfaces(const call& x) {
  if (x.destination.is(model::local_vm))
    return list_denied(x.view(), x.destination);
  return model::fail(errc::general, fmt::format("'{}' runs on another host and takes no devices",
                                                x.destination.name.str()));
}

// -- volumes and pools ----------------------------------------------------------------------------

outcome<std::string> volumes(const call& x) {
  auto text = std::string{};
  for (auto& it : x.destination.volumes)
    text += it.name + '\n';
  return text;
}

outcome<std::string> pools(const call& x) {
  auto text = std::string{};
  for (auto& it : x.now.system->pools)
    text += it.name + '\n';
  return text;
}

outcome<std::string> pool_drivers(const call&) {
  auto text = std::string{};
  for (auto& driver : model::pool_drivers()) {
    text += driver.name;
    for (auto& option : driver.options)
      text += fmt::format(" {}", option.name);
    text += '\n';
  }
  return text;
}

} // namespace qubes::actors::reads
