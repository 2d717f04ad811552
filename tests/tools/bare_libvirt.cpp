#include "bare_libvirt.hpp"

#include "clock.hpp"

#include <fmt/format.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include <memory>
#include <stdexcept>
#include <vector>

namespace qubes::tools {

namespace {

/// XML of the length that an app domain with four volumes and one network interface has.
std::string domain_xml(unsigned number) {
  std::string disks;
  for (auto [device, name] :
       {std::pair{"xvda", "root"}, {"xvdb", "private"}, {"xvdc", "volatile"}, {"xvdd", "modules"}})
    disks += fmt::format(R"(    <disk type="block" device="disk">
      <driver name="phy"/>
      <source dev="/var/lib/qubes/appvms/bare-{}/{}-dirty.img"/>
      <target dev="{}"/>
      <script path="/etc/xen/scripts/qubes-block"/>
    </disk>
)",
                         number, name, device);
  return fmt::format(R"(<domain type="xen">
  <name>bare-{0}</name>
  <uuid>00000000-0000-4000-9000-{0:012}</uuid>
  <memory unit="MiB">4000</memory>
  <currentMemory unit="MiB">400</currentMemory>
  <vcpu placement="static">2</vcpu>
  <cpu mode="host-passthrough">
    <feature name="vmx" policy="disable"/>
    <feature name="svm" policy="disable"/>
    <feature name="invtsc" policy="require"/>
  </cpu>
  <os>
    <type arch="x86_64" machine="xenpvh">xenpvh</type>
    <kernel>/var/lib/qubes/vm-kernels/6.6.36-1/vmlinuz</kernel>
    <initrd>/var/lib/qubes/vm-kernels/6.6.36-1/initramfs</initrd>
    <cmdline>root=/dev/mapper/dmroot ro nomodeset console=hvc0 rd_NO_PLYMOUTH rd.plymouth.enable=0 plymouth.enable=0 xen_privcmd.unrestricted swiotlb=2048</cmdline>
  </os>
  <features>
    <pae/>
    <acpi/>
    <apic/>
    <viridian/>
  </features>
  <clock offset="utc" adjustment="reset">
    <timer name="tsc" mode="native"/>
  </clock>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
{1}    <interface type="ethernet">
      <mac address="00:16:3e:5e:6c:00"/>
      <ip address="10.137.0.12"/>
      <backenddomain name="sys-firewall"/>
      <script path="vif-route-qubes"/>
    </interface>
    <console type="pty">
      <target type="xen" port="0"/>
    </console>
  </devices>
</domain>
)",
                     number, disks);
}

using connection = std::unique_ptr<virConnect, decltype(&virConnectClose)>;
using domain = std::unique_ptr<virDomain, decltype(&virDomainFree)>;

void must(int result, const char* what) {
  if (result < 0)
    throw std::runtime_error(fmt::format("{}: {}", what, virGetLastErrorMessage()));
}

} // namespace

double start_and_shut_down_bare(const std::string& uri, unsigned count) {
  connection host{virConnectOpen(uri.c_str()), virConnectClose};
  must(host ? 0 : -1, "virConnectOpen");
  std::vector<std::string> documents;
  for (unsigned i = 0; i < count; ++i)
    documents.push_back(domain_xml(i));
  std::vector<domain> domains;
  int state = 0;
  int reason = 0;
  return timed([&] {
    for (const auto& xml : documents) {
      domains.emplace_back(virDomainDefineXML(host.get(), xml.c_str()), virDomainFree);
      auto* x = domains.back().get();
      must(x != nullptr ? 0 : -1, "virDomainDefineXML");
      must(virDomainCreate(x), "virDomainCreate");
      must(virDomainSuspend(x), "virDomainSuspend");
      must(virDomainResume(x), "virDomainResume");
      must(virDomainGetState(x, &state, &reason, 0), "virDomainGetState");
    }
    for (const auto& x : domains) {
      must(virDomainShutdown(x.get()), "virDomainShutdown");
      must(virDomainGetState(x.get(), &state, &reason, 0), "virDomainGetState");
      must(virDomainUndefine(x.get()), "virDomainUndefine");
    }
  });
}

} // namespace qubes::tools
