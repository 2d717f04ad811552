#include "model/property/kind_of.hpp"

#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

std::string mac_of(unsigned group, const domain& x) {
  auto number = static_cast<unsigned>(x.qid);
  return fmt::format("00:16:3e:{:02x}:{:02x}:{:02x}", group, (number >> 8) & 0xFF, number & 0xFF);
}

/// Of a hypervisor where guests do not serve each other, the one that serves the domain is on the
/// same; and the other way round.
outcome<void> check_netvm(const view& v, const domain& x) {
  auto* netvm = netvm_of(v, x);
  if (!netvm || netvm->name.is_dom0())
    return {};
  auto given = x.features.find("net.bridge");
  auto here = next_hypervisor_of(v, x);
  auto there = hypervisor_of(v, *netvm);
  if (here == there || (given && !given->empty()))
    return {};
  return fail(errc::vm_error,
              fmt::format("'{}' cannot be reached from its netvm '{}': one is a container, the "
                          "other is not",
                          x.name.str(), netvm->name.str()),
              "choose a netvm of its own kind, or set its feature net.bridge to a bridge of the "
              "host");
}

} // namespace

hypervisor_id next_hypervisor_of(const view& v, const domain& x) {
  auto mode = x.is(qubes_vm) ? find_virt_mode(read_text({v, &x}, "virt_mode")) : nullptr;
  return mode ? mode->where : hypervisor_id::host;
}

hypervisor_id hypervisor_of(const view& v, const domain& x) {
  auto facts = v.facts(x);
  return facts.xid >= 0 ? facts.at : next_hypervisor_of(v, x);
}

const kind_row& kind_of(const view& v, const domain& x) {
  return row(hypervisor_of(v, x) == hypervisor_id::host
                 ? v.machine.kind
                 : v.machine.containers.value_or(hypervisor_kind::lxc));
}

hypervisor_kind form_of(const view& v, const domain& x) {
  if (hypervisor_of(v, x) == hypervisor_id::containers)
    return hypervisor_kind::lxc;
  return v.machine.kind == hypervisor_kind::test ? hypervisor_kind::xen : v.machine.kind;
}

bool has_agent(const view& v, const domain& x) {
  return abilities_of(v, x).agent && has_feature(v, x, "qrexec", chain::with_template);
}

outcome<void> check_device(const view& v, const domain& x, std::string_view device_class,
                           std::string_view backend) {
  auto& [id, name, scheme, libvirt, place, can] = kind_of(v, x);
  if (device_class == "pci" && !can.pci)
    return fail(errc::general,
                fmt::format("'{}' is a container and takes no PCI devices", x.name.str()),
                "change its virt_mode first");
  if (device_class == "block" && !can.backends && !backend.empty() && backend != "dom0")
    return fail(errc::general,
                fmt::format("disks of '{}' do not reach '{}': its hypervisor is {}", backend,
                            x.name.str(), name),
                "only disks of dom0 do");
  return {};
}

std::string bridge_of(const domain& netvm) {
  return fmt::format("qvbr{}", netvm.qid);
}

std::string serving_mac(const domain& netvm) {
  return mac_of(0x60, netvm);
}

std::string bridged_mac(const domain& x) {
  return mac_of(0x5f, x);
}

outcome<void> check_kind(const view& v, const domain& x) {
  auto& name = x.name.str();
  if (next_hypervisor_of(v, x) == hypervisor_id::containers && !v.machine.containers)
    return fail(errc::vm_error,
                fmt::format("'{}' is a container, and this host has no containers", name),
                fmt::format("set {} in the daemon's configuration, or change its virt_mode",
                            key_of(hypervisor_id::containers)));
  auto& can = abilities_of(v, x);
  if (!can.kernels && !read_text({v, &x}, "kernel").empty())
    return fail(errc::vm_error,
                fmt::format("'{}' is a container and boots no kernel of its own", name),
                "reset its kernel");
  if (!can.pci && x.has_pci())
    return fail(errc::vm_error, fmt::format("'{}' is a container and takes no PCI devices", name),
                "unassign them");
  for (auto& disk : assigned(x, "block"))
    if (disk.mode == assignment_mode::required)
      if (auto able = check_device(v, x, "block", disk.backend); !able)
        return fail(errc::vm_error, std::move(able.error().text), "unassign it");
  return check_netvm(v, x);
}

} // namespace qubes::model
