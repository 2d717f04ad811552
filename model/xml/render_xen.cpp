#include "model/base/literal.hpp"
#include "model/xml/disk_names.hpp"
#include "model/xml/render_parts.hpp"

#include <algorithm>

namespace qubes::model::xml::xen {

namespace {

constexpr auto block_script = "/etc/xen/scripts/qubes-block";
constexpr auto vif_script = "vif-route-qubes";
constexpr auto uefi_firmware = "/usr/share/edk2/xen/OVMF.fd";
constexpr auto full_stubdom_kernel = "/usr/libexec/xen/boot/qemu-stubdom-linux-full-kernel";
constexpr auto full_stubdom_rootfs = "/usr/libexec/xen/boot/qemu-stubdom-linux-full-rootfs";

bool has_own_feature(const machine& x, const std::string& name, bool fallback) {
  auto own = x.own_features.find(name);
  return own == x.own_features.end() ? fallback : !own->second.empty();
}

// -- what the machine has -------------------------------------------------------------------------

bool is_hvm(const machine& x) {
  return x.virt_mode == "hvm";
}

bool is_pv(const machine& x) {
  return x.virt_mode == "pv";
}

void add_memory(pugi::xml_node to, const machine& x) {
  auto amount = [&](const char* tag, std::int64_t mib) {
    add(to, tag, {{"unit", "MiB"}}, std::to_string(mib));
  };
  auto fixed = (is_hvm(x) && x.has_pci) || x.maxmem == 0;
  amount("memory", fixed || x.memory_hotplug ? x.memory : x.maxmem);
  if (!fixed && x.memory_hotplug)
    add(to, "maxMemory", {{"unit", "MiB"}, {"slots", "1"}}, std::to_string(x.maxmem));
  amount("currentMemory", x.memory);
}

/// rdrand gives guessable numbers after suspend on these processors (family, model).
bool has_bad_rdrand(const machine& x) {
  return x.cpu_family == 6 && (x.cpu_model == 58 || x.cpu_model == 62);
}

void add_cpu(pugi::xml_node to, const machine& x) {
  add(to, "vcpu", {{"placement", "static"}}, std::to_string(x.vcpus));
  if (is_pv(x))
    return;
  auto cpu = add(to, "cpu", {{"mode", "host-passthrough"}});
  add(cpu, "feature", {{"name", "vmx"}, {"policy", "disable"}});
  add(cpu, "feature", {{"name", "svm"}, {"policy", "disable"}});
  if (has_bad_rdrand(x))
    add(cpu, "feature", {{"name", "rdrand"}, {"policy", "disable"}});
  add(cpu, "feature", {{"name", "invtsc"}, {"policy", "require"}});
}

std::string command_line(const machine& x) {
  if (has_feature(x, "no-default-kernelopts"))
    return x.kernelopts + x.bootmode_kernelopts;
  auto guard = feature(x, "apparmor") == "1"  ? " apparmor=1 security=apparmor"
               : feature(x, "selinux") == "1" ? " selinux=1 security=selinux"
                                              : "";
  return x.kernelopts_common + x.kernelopts + guard + x.bootmode_kernelopts;
}

void add_hvm_loader(pugi::xml_node os, const machine& x) {
  add(os, "type", {{"arch", "x86_64"}, {"machine", "xenfv"}}, "hvm");
  if (has_feature(x, "uefi"))
    add(os, "loader", {{"type", "pflash"}}, uefi_firmware);
  else
    add(os, "loader", {{"type", "rom"}}, "hvmloader");
  add(os, "boot", {{"dev", "cdrom"}});
  add(os, "boot", {{"dev", "hd"}});
}

void add_kernel(pugi::xml_node os, const machine& x) {
  if (is_pv(x))
    add(os, "type", {{"arch", "x86_64"}, {"machine", "xenpv"}}, "linux");
  else
    add(os, "type", {{"arch", "x86_64"}, {"machine", "xenpvh"}}, "xenpvh");
  add(os, "kernel", {}, x.kernel_path);
  if (!x.initramfs_path.empty())
    add(os, "initrd", {}, x.initramfs_path);
}

void add_os(pugi::xml_node to, const machine& x) {
  auto os = add(to, "os");
  if (is_hvm(x))
    add_hvm_loader(os, x);
  else
    add_kernel(os, x);
  if (!x.kernel.empty())
    add(os, "cmdline", {}, command_line(x));
}

void add_features(pugi::xml_node to, const machine& x) {
  auto features = add(to, "features");
  if (!is_pv(x))
    for (auto tag : {"pae", "acpi", "apic", "viridian"})
      add(features, tag);
  if (x.has_pci && has_own_feature(x, "pci-e820-host", true))
    add(add(features, "xen"), "e820_host", {{"state", "on"}});
}

bool is_offset(std::string_view text) {
  auto begin = text.find_first_not_of('-');
  if (begin == std::string_view::npos)
    return false;
  auto digits = text.substr(begin, text.find_last_not_of('-') - begin + 1);
  return digits.find_first_not_of("0123456789") == std::string_view::npos;
}

void add_clock(pugi::xml_node to, const machine& x) {
  if (!is_hvm(x)) {
    auto clock = add(to, "clock", {{"offset", "utc"}, {"adjustment", "reset"}});
    add(clock, "timer", {{"name", "tsc"}, {"mode", "native"}});
    return;
  }
  auto zone = lower_case(feature(x, "timezone"));
  add(to, "clock",
      {{"offset", "variable"},
       {"adjustment", is_offset(zone) ? zone : "0"},
       {"basis", zone == "localtime" ? "localtime" : "utc"}});
}

// -- disks ----------------------------------------------------------------------------------------

struct disk {
  std::string devtype, path, target, backend;
  bool readonly = false;
  bool script = true;
};

void add_disk(pugi::xml_node to, const disk& x) {
  auto node = add(to, "disk", {{"type", "block"}, {"device", x.devtype}});
  add(node, "driver", {{"name", "phy"}});
  add(node, "source", {{"dev", x.path}});
  add(node, "target", {{"dev", x.target}});
  if (x.readonly)
    add(node, "readonly");
  if (!x.backend.empty())
    add(node, "backenddomain", {{"name", x.backend}});
  if (x.script)
    add(node, "script", {{"path", block_script}});
}

disk as_disk(const block_attachment& x, std::string target) {
  auto devtype = option(x.options, "devtype");
  return {.devtype = devtype.empty() ? "disk" : devtype,
          .path = x.node,
          .target = std::move(target),
          .backend = x.backend_is_dom0 ? "" : x.backend,
          .readonly = option(x.options, "read-only") == "yes",
          .script = x.backend_is_dom0 || x.backend_has_script};
}

std::string fixed_target(std::string_view volume) {
  constexpr std::pair<std::string_view, const char*> rows[]{
      {"root", "xvda"}, {"private", "xvdb"}, {"volatile", "xvdc"}, {"kernel", "xvdd"}};
  for (auto& [name, target] : rows)
    if (name == volume)
      return target;
  return {};
}

outcome<void> add_volumes(pugi::xml_node to, const machine& x, disk_names& names) {
  for (auto& volume : x.volumes) {
    auto target = fixed_target(volume.volume);
    if (target.empty() || !names.take(target))
      target = names.take_spare();
    if (target.empty())
      return too_many_disks(x, volume.volume);
    add_disk(to, {.devtype = volume.devtype,
                  .path = volume.path,
                  .target = std::move(target),
                  .backend = volume.domain,
                  .readonly = !volume.rw});
  }
  return {};
}

outcome<void> add_blocks(pugi::xml_node to, const machine& x, disk_names& names) {
  return names.name_blocks(x).map([&](const std::vector<std::string>& given) {
    for (auto i = std::size_t{0}; i < given.size(); ++i)
      add_disk(to, as_disk(x.required_blocks[i], given[i]));
  });
}

// -- other devices --------------------------------------------------------------------------------

void add_net(pugi::xml_node to, const machine& x) {
  auto node = add(to, "interface", {{"type", "ethernet"}});
  add(node, "mac", {{"address", x.mac}});
  add(node, "ip", {{"address", x.ip}});
  if (!x.ip6.empty())
    add(node, "ip", {{"address", x.ip6}, {"family", "ipv6"}});
  add(node, "backenddomain", {{"name", x.netvm.value_or("")}});
  add(node, "script", {{"path", vif_script}});
}

void add_pci(pugi::xml_node to, const pci_attachment& x, bool suspend_s0ix) {
  auto node = add(to, "hostdev", {{"type", "pci"}, {"managed", "yes"}});
  if (!option(x.options, "no-strict-reset").empty())
    node.append_attribute("nostrictreset") = "yes";
  auto source = add(node, "source");
  if (!option(x.options, "permissive").empty())
    source.append_attribute("writeFiltering") = "no";
  if (suspend_s0ix)
    source.append_attribute("powerManagementFiltering") = "no";
  add(source, "address",
      {{"domain", "0x" + x.segment},
       {"bus", "0x" + x.bus},
       {"slot", "0x" + x.device},
       {"function", "0x" + x.function}});
}

std::string without_ends(const std::string& text) {
  auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos)
    return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

bool has_linux_stubdom(const machine& x) {
  return has_feature(x, "linux-stubdom", true);
}

std::string stubdom_network(const machine& x) {
  auto form = has_linux_stubdom(x)
                  ? " -qubes-net:client_ip={0},dns_0={1},dns_1={2},gw={3},netmask={4}"
                  : " -net lwip,client_ip={0},server_ip={2},dns={1},gw={3},netmask={4}";
  return fmt::format(fmt::runtime(form), x.ip, x.dns[0], x.dns[1], x.netvm_gateway, x.netmask);
}

void add_emulator(pugi::xml_node to, const machine& x) {
  auto command = without_ends(
      fmt::format("-qubes-audio:audiovm_xid={} {}", x.audiovm_xid, feature(x, "qemu-extra-args")));
  if (x.debug)
    command += " -trace xen_platform_log";
  if (x.netvm)
    command += stubdom_network(x);
  auto node =
      add(to, "emulator",
          {{"type", has_linux_stubdom(x) ? "stubdom-linux" : "stubdom"}, {"cmdline", command}});
  if (x.stubdom_mem)
    node.append_attribute("memory") = std::to_string(*x.stubdom_mem * 1024).c_str();
  if (has_feature(x, "audio-model") || has_feature(x, "stubdom-qrexec")) {
    node.append_attribute("kernel") = full_stubdom_kernel;
    node.append_attribute("ramdisk") = full_stubdom_rootfs;
  }
}

void add_graphics(pugi::xml_node to, const machine& x) {
  auto node = add(to, "graphics", {{"type", "qubes"}});
  if (x.guivm && x.guivm_running && *x.guivm != "dom0")
    node.append_attribute("domain") = x.guivm->c_str();
  if (x.debug)
    node.append_attribute("log_level") = "2";
}

void add_emulated_devices(pugi::xml_node to, const machine& x) {
  add_emulator(to, x);
  add(to, "input", {{"type", "tablet"}, {"bus", "usb"}});
  if (auto model = feature(x, "audio-model"); !model.empty())
    add(to, "sound", {{"model", model}});
  auto model = feature(x, "video-model", "vga");
  if (model == "none")
    return;
  add(add(to, "video"), "model", {{"type", model}});
  if (has_linux_stubdom(x))
    add_graphics(to, x);
}

outcome<void> add_devices(pugi::xml_node to, const machine& x) {
  auto devices = add(to, "devices");
  auto names = disk_names{};
  if (auto added = add_volumes(devices, x, names); !added)
    return added;
  if (auto added = add_blocks(devices, x, names); !added)
    return added;
  if (x.netvm)
    add_net(devices, x);
  for (auto& pci : x.required_pci)
    add_pci(devices, pci, x.suspend_s0ix);
  if (is_hvm(x))
    add_emulated_devices(devices, x);
  auto console = add(devices, "console", {{"type", "pty"}});
  add(console, "target", {{"type", "xen"}, {"port", "0"}});
  return {};
}

/// Domains of Xen, with what the libvirt of Qubes knows beyond others.
class xen_renderer final : public renderer {
public:
  outcome<std::string> domain(const machine& x) const override;
  std::string interface(const machine& x) const override;
  std::string disk(const block_attachment& x, std::string_view frontend) const override;
  std::string pci(const pci_attachment& x, bool suspend_s0ix) const override;
};

outcome<std::string> xen_renderer::domain(const machine& x) const {
  if (!is_hvm(x) && !is_pv(x) && x.virt_mode != "pvh")
    return wrong_mode(x, "choose hvm, pvh or pv");
  auto document = pugi::xml_document{};
  auto root = add(document, "domain", {{"type", "xen"}});
  add(root, "name", {}, x.name);
  add(root, "uuid", {}, x.uuid);
  add_memory(root, x);
  add_cpu(root, x);
  add_os(root, x);
  add_features(root, x);
  add_clock(root, x);
  add_endings(root);
  if (auto added = add_devices(root, x); !added)
    return tl::unexpected{added.error()};
  return written(document);
}

std::string xen_renderer::interface(const machine& x) const {
  auto document = pugi::xml_document{};
  add_net(document, x);
  return written(document);
}

std::string xen_renderer::disk(const block_attachment& x, std::string_view frontend) const {
  auto document = pugi::xml_document{};
  auto asked = option(x.options, "frontend-dev");
  add_disk(document, as_disk(x, asked.empty() ? std::string{frontend} : asked));
  return written(document);
}

std::string xen_renderer::pci(const pci_attachment& x, bool suspend_s0ix) const {
  auto document = pugi::xml_document{};
  add_pci(document, x, suspend_s0ix);
  return written(document);
}

} // namespace

const renderer& the_renderer() {
  static const auto only = xen_renderer{};
  return only;
}

} // namespace qubes::model::xml::xen
