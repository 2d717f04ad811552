#include "model/property/kernel_options.hpp"

#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/kind_of.hpp"

#include <fmt/format.h>

namespace qubes::model {

const kernel* kernel_of(const view& v, const domain& x) {
  auto name = read_text({v, &x}, "kernel");
  return name.empty() ? nullptr : v.machine.find_kernel(name);
}

std::string_view boot_loader_of(std::string_view virt_mode) {
  return virt_mode == "pv" ? "pvgrub2" : virt_mode == "pvh" ? "pvgrub2-pvh" : "";
}

bool boots_own_kernel(const view& v, const domain& x) {
  auto name = read_text({v, &x}, "kernel");
  return name.empty() || name == boot_loader_of(read_text({v, &x}, "virt_mode"));
}

bool can_hotplug_memory(const view& v, const domain& x) {
  if (!abilities_of(v, x).memory_hotplug)
    return false;
  auto inherited = [&](std::string_view name) {
    return find_feature(v, x, name, chain::with_template);
  };
  if (auto hotplug = inherited("memory-hotplug"))
    return !hotplug->empty();
  if (read_text({v, &x}, "virt_mode") == "hvm")
    return false;
  if (!boots_own_kernel(v, x)) {
    auto used = kernel_of(v, x);
    return used && used->memory_hotplug;
  }
  auto own = inherited("supported-feature.memory-hotplug");
  return own && !own->empty();
}

} // namespace qubes::model

namespace qubes::model::defaults {

namespace {

constexpr auto built_in_options = "swiotlb=2048";
constexpr auto default_mode = "default";

std::string options_with_pci(const subject& who) {
  auto used = kernel_of(who.view, *who.owner);
  auto options = used ? used->default_options_pci.value_or("") : "";
  auto dom0 = who.view.system.find("dom0");
  if (dom0 && has_feature(who.view, *dom0, "suspend-s0ix", chain::own))
    options += " qubes_exp_pm_use_suspend=1";
  return options;
}

bool has_mode(const view& v, const domain& x, std::string_view mode) {
  auto feature = fmt::format("boot-mode.kernelopts.{}", mode);
  return mode == default_mode || find_feature(v, x, feature, chain::with_template);
}

} // namespace

result kernelopts(const subject& who) {
  if (read_text(who, "kernel").empty())
    return std::string{};
  if (who.owner->has_pci())
    return options_with_pci(who);
  if (auto base = template_of(who.view, *who.owner))
    return read({who.view, base}, "kernelopts");
  auto used = kernel_of(who.view, *who.owner);
  return used ? used->default_options.value_or(built_in_options) : built_in_options;
}

result bootmode(const subject& who) {
  auto& v = who.view;
  auto active = who.owner->features.find("boot-mode.active");
  if (active && has_mode(v, *who.owner, *active))
    return *active;
  auto at = who.owner;
  for (auto base = template_of(v, *at); base; at = base, base = template_of(v, *at))
    if (auto mode = read_text({v, base}, "appvm_default_bootmode");
        !mode.empty() && has_mode(v, *at, mode))
      return mode;
  return std::string{default_mode};
}

result appvm_default_bootmode(const subject& who) {
  auto asked = who.owner->features.find("boot-mode.appvm-default");
  return asked ? *asked : std::string{default_mode};
}

} // namespace qubes::model::defaults
