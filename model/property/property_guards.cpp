#include "model/property/property_guards.hpp"

#include "model/base/literal.hpp"
#include "model/property/graph.hpp"
#include "model/property/kernel_options.hpp"
#include "model/property/kind_of.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace qubes::model::guards {

namespace {

const domain* named(const subject& who, const value& x) {
  auto name = std::get_if<std::string>(&x);
  return name ? who.view.system.find(*name) : nullptr;
}

/// The domain and everything it reaches the network through.
std::set<const domain*> way_out(const view& v, const domain* x) {
  auto seen = std::set<const domain*>{};
  while (x && seen.insert(x).second)
    x = netvm_of(v, *x);
  return seen;
}

template <class Domains>
std::string list(const Domains& some) {
  auto all = std::vector<std::string_view>{};
  for (auto x : some)
    all.push_back(x->name.str());
  return fmt::format("{}", fmt::join(all, ", "));
}

std::string list(const std::vector<use>& some) {
  auto all = std::vector<std::string>{};
  for (auto& x : some)
    all.push_back(x.owner + ":" + x.property);
  return fmt::format("{}", fmt::join(all, ", "));
}

std::vector<std::string_view> kernel_names(const host& machine) {
  auto all = std::vector<std::string_view>{};
  for (auto& x : machine.kernels)
    all.push_back(x.name);
  return all;
}

} // namespace

result kernel_installed(const subject& who, const value& next) {
  auto name = to_text(next);
  if (name.empty())
    return {};
  auto& machine = who.view.machine;
  auto found = machine.find_kernel(name);
  if (!found)
    return fail(errc::property_value, fmt::format("kernel {} is not installed", quoted(name)),
                fmt::format("installed are {}", fmt::join(kernel_names(machine), ", ")));
  if (!found->vmlinuz)
    return fail(
        errc::property_value,
        fmt::format("kernel {} is not properly installed: it has no vmlinuz", quoted(name)));
  return {};
}

result netvm(const subject& who, const value& next) {
  auto target = named(who, next);
  if (!target)
    return {};
  if (!read_bool({who.view, target}, "provides_network"))
    return fail(errc::value, fmt::format("'{}' does not provide network", target->name.str()),
                "set its provides_network first, or choose a domain that has it");
  if (way_out(who.view, target).count(who.owner))
    return fail(errc::value,
                fmt::format("'{}' would reach the network through itself: '{}' depends on it",
                            who.owner->name.str(), target->name.str()));
  return {};
}

result default_netvm(const subject& who, const value& next) {
  auto target = named(who, next);
  if (!target)
    return {};
  if (target->is(admin_vm))
    return fail(errc::value, fmt::format("'{}' does not provide network", target->name.str()));
  auto way = way_out(who.view, target);
  for (auto& x : who.view.system.domains)
    if (x->is(qubes_vm) && at_default({who.view, x.get()}, "netvm") && way.count(x.get()))
      return fail(errc::property_value,
                  fmt::format("'{}' would reach the network through itself, as it uses the default "
                              "netvm and '{}' depends on it",
                              x->name.str(), target->name.str()),
                  fmt::format("set the netvm of '{}' first", x->name.str()));
  return {};
}

result provides_network(const subject& who, const value& next) {
  auto clients = truthy(next) ? std::vector<const domain*>{} : connected_to(who.view, *who.owner);
  if (clients.empty())
    return {};
  return fail(errc::value,
              fmt::format("'{}' is the netvm of {}", who.owner->name.str(), list(clients)),
              "change their netvm first");
}

result template_change(const subject& who, const value&) {
  if (!read_bool(who, "template_for_dispvms"))
    return {};
  auto& v = who.view;
  auto running = based_on(v, *who.owner);
  std::erase_if(running, [&](const domain* x) { return !is_running(v, *x) || is_preload(v, *x); });
  if (running.empty())
    return {};
  return fail(
      errc::vm_in_use,
      fmt::format("disposables of '{}' are running: {}", who.owner->name.str(), list(running)),
      "shut them down first");
}

result template_for_dispvms(const subject& who, const value& next) {
  if (truthy(next) || !read_bool(who, "template_for_dispvms"))
    return {};
  auto uses = uses_of(who.view, *who.owner);
  std::erase_if(uses, [](const use& x) {
    return x.property != "default_dispvm" && x.property != "management_dispvm"
           && x.property != "template";
  });
  if (uses.empty())
    return {};
  return fail(errc::vm_in_use,
              fmt::format("'{}' is needed as a disposable template by {}", who.owner->name.str(),
                          list(uses)),
              "change these first");
}

namespace {

/// The running domain that would be on another hypervisor than now: the domain, or one that takes
/// its virt_mode over.
const domain* torn_away(const view& v, const domain& x, hypervisor_id next) {
  if (is_running(v, x) && v.facts(x).at != next)
    return &x;
  for (auto* heir : based_on(v, x))
    if (at_default({v, heir}, "virt_mode") && !heir->has_pci())
      if (auto* found = torn_away(v, *heir, next))
        return found;
  return nullptr;
}

} // namespace

result virt_mode(const subject& who, const value& next) {
  auto mode = find_virt_mode(to_text(next));
  if (!mode)
    return {};
  auto& v = who.view;
  auto& x = *who.owner;
  if (auto* running = torn_away(v, x, mode->where))
    return fail(errc::vm_not_halted,
                fmt::format("virt_mode of '{}' cannot become {} while '{}' runs", x.name.str(),
                            mode->name, running->name.str()),
                "shut it down first");
  if (mode->where == hypervisor_id::host)
    return {};
  if (!v.machine.containers)
    return fail(errc::property_value,
                fmt::format("'{}' cannot be a container: this host has none", x.name.str()),
                fmt::format("set {} in the daemon's configuration first",
                            key_of(hypervisor_id::containers)));
  auto kernel = x.properties.find("kernel");
  if (kernel != x.properties.end() && !to_text(kernel->second).empty())
    return fail(errc::property_value,
                fmt::format("'{}' has a kernel, and containers boot none", x.name.str()),
                "reset its kernel first");
  if (x.has_pci())
    return fail(
        errc::property_value,
        fmt::format("'{}' has PCI devices assigned, and containers take none", x.name.str()),
        "unassign them first");
  for (auto& disk : assigned(x, "block"))
    if (disk.backend != "dom0")
      return fail(errc::property_value,
                  fmt::format("'{}' has a disk of '{}' assigned, and containers have only dom0's",
                              x.name.str(), disk.backend),
                  "unassign it first");
  return {};
}

result kernel(const subject& who, const value& next) {
  if (who.owner && !to_text(next).empty() && !abilities_of(who.view, *who.owner).kernels)
    return fail(errc::property_value,
                fmt::format("'{}' is a container and boots no kernel", who.owner->name.str()),
                "change its virt_mode first");
  return kernel_installed(who, next);
}

result maxmem(const subject& who, const value& next) {
  auto& v = who.view;
  if (power_of(v, *who.owner) == power::halted || read(who, "maxmem") == next
      || can_hotplug_memory(v, *who.owner))
    return {};
  return fail(errc::vm_not_halted,
              fmt::format("maxmem of '{}' cannot change while it runs without memory hotplug",
                          who.owner->name.str()),
              "shut it down first");
}

} // namespace qubes::model::guards
