#include "model/xml/disk_names.hpp"
#include "model/xml/render_parts.hpp"

#include <vector>

namespace qubes::model::xml::qemu {

namespace {

/// Where the guest's agent is reached, should it have one.
constexpr auto agent_channel = "org.qemu.guest_agent.0";

/// Ports for devices that come while the domain runs, beyond one for each that it begins with.
constexpr auto spare_ports = std::size_t{8};

// -- disks ----------------------------------------------------------------------------------------

struct disk {
  std::string path, front_end;
  std::string devtype = "disk";
  bool readonly = false;
};

/// sda is 0, sdz 25, sdaa 26; of sda1 that of its disk.
unsigned number_of(std::string_view name) {
  auto result = 0U;
  auto letters = name.substr(name.find('d') + 1);
  for (auto letter : letters.substr(0, letters.find_first_of("0123456789")))
    result = result * 26 + static_cast<unsigned>(letter - 'a' + 1);
  return result - 1;
}

/// There are no discs by virtio. What is vdi without it and sdi are two places.
void add_scsi_place(pugi::xml_node disk, std::string_view name) {
  add(disk, "address",
      {{"type", "drive"},
       {"controller", "0"},
       {"bus", "0"},
       {"target", name.starts_with("vd") ? "1" : "0"},
       {"unit", std::to_string(number_of(name))}});
}

/// Guests name disks in the order in which they come. The serial number of a disk is its name in
/// dom0.
void add_disk(pugi::xml_node to, const disk& x) {
  auto is_device = x.path.starts_with("/dev/");
  auto cdrom = x.devtype == "cdrom";
  auto node = add(to, "disk",
                  {{"type", is_device ? "block" : "file"}, {"device", cdrom ? "cdrom" : "disk"}});
  add(node, "driver", {{"name", "qemu"}, {"type", "raw"}});
  add(node, "source", {{is_device ? "dev" : "file", x.path}});
  auto name = virtio_name(x.front_end);
  auto by_scsi = cdrom || !name.starts_with("vd");
  add(node, "target", {{"dev", name}, {"bus", by_scsi ? "scsi" : "virtio"}});
  if (x.readonly || cdrom)
    add(node, "readonly");
  add(node, "serial", {}, x.front_end);
  if (by_scsi)
    add_scsi_place(node, name);
}

disk as_disk(const block_attachment& x, std::string_view front_end) {
  auto devtype = option(x.options, "devtype");
  return {.path = x.node,
          .front_end = std::string{front_end},
          .devtype = devtype == "cdrom" ? devtype : "disk",
          .readonly = option(x.options, "read-only") == "yes"};
}

outcome<void> add_disks(pugi::xml_node to, const machine& x) {
  constexpr auto letters = std::string_view{"abcdefghijklmnopqrstuvwxyz"};
  auto names = disk_names{};
  auto next = std::size_t{0};
  for (auto& volume : x.volumes) {
    if (next == letters.size())
      return too_many_disks(x, volume.volume);
    auto name = fmt::format("xvd{}", letters[next++]);
    names.take(name);
    add_disk(to, {.path = volume.path,
                  .front_end = name,
                  .devtype = volume.devtype,
                  .readonly = !volume.rw});
  }
  return names.name_blocks(x).map([&](const std::vector<std::string>& given) {
    for (auto i = std::size_t{0}; i < given.size(); ++i)
      add_disk(to, as_disk(x.required_blocks[i], given[i]));
  });
}

// -- the rest -------------------------------------------------------------------------------------

std::string command_line(const machine& x) {
  return fmt::format("root=/dev/vda ro console=ttyS0 {}{}", x.kernelopts, x.bootmode_kernelopts);
}

/// A site may know that KVM does not work, though libvirt offers it.
bool is_accelerated(const machine& x) {
  return x.accelerated && has_feature(x, "qemu.kvm", true);
}

void add_os(pugi::xml_node to, const machine& x) {
  auto uefi = has_feature(x, "uefi");
  auto os = uefi ? add(to, "os", {{"firmware", "efi"}}) : add(to, "os");
  add(os, "type", {{"arch", "x86_64"}, {"machine", "q35"}}, "hvm");
  if (x.kernel.empty())
    return void(add(os, "boot", {{"dev", "hd"}}));
  add(os, "kernel", {}, x.kernel_path);
  if (!x.initramfs_path.empty())
    add(os, "initrd", {}, x.initramfs_path);
  add(os, "cmdline", {}, command_line(x));
}

/// There is no QubesDB in such a machine: what its programs should know is in its firmware's
/// configuration, in Linux below /sys/firmware/qemu_fw_cfg/by_name.
void add_firmware_entries(pugi::xml_node to, const machine& x) {
  auto all = add(to, "sysinfo", {{"type", "fwcfg"}});
  for (auto& [word, text] : told_to_programs(x))
    add(all, "entry", {{"name", fmt::format("opt/org.qubes-os/{}", word)}}, text);
}

void add_interface(pugi::xml_node to, const bridge_leg& x) {
  auto node = add(to, "interface", {{"type", "bridge"}});
  add(node, "mac", {{"address", x.mac}});
  add(node, "source", {{"bridge", x.bridge}});
  add(node, "model", {{"type", "virtio"}});
}

void add_pci(pugi::xml_node to, const pci_attachment& x) {
  auto node = add(to, "hostdev", {{"mode", "subsystem"}, {"type", "pci"}, {"managed", "yes"}});
  add(add(node, "source"), "address",
      {{"domain", "0x" + x.segment},
       {"bus", "0x" + x.bus},
       {"slot", "0x" + x.device},
       {"function", "0x" + x.function}});
}

std::size_t ports_of(const machine& x) {
  constexpr auto always = std::size_t{4}; // SCSI, USB, serial channels, the balloon
  return always + x.volumes.size() + x.required_blocks.size() + x.required_pci.size()
         + bridges_of(x).size();
}

void add_controllers(pugi::xml_node to, const machine& x) {
  add(to, "controller", {{"type", "scsi"}, {"index", "0"}, {"model", "virtio-scsi"}});
  auto add_bus = [&](std::size_t index, const char* model) {
    add(to, "controller", {{"type", "pci"}, {"index", std::to_string(index)}, {"model", model}});
  };
  add_bus(0, "pcie-root");
  for (auto i = std::size_t{1}; i <= ports_of(x) + spare_ports; ++i)
    add_bus(i, "pcie-root-port");
}

void add_channels(pugi::xml_node to) {
  add(to, "serial", {{"type", "pty"}});
  add(add(to, "console", {{"type", "pty"}}), "target", {{"type", "serial"}, {"port", "0"}});
  auto channel = add(to, "channel", {{"type", "unix"}});
  add(channel, "target", {{"type", "virtio"}, {"name", agent_channel}});
}

/// A guest whose kernel fails tells so by this device.
void add_panic(pugi::xml_node to) {
  add(to, "panic", {{"model", "isa"}});
}

class qemu_renderer final : public renderer {
public:
  outcome<std::string> domain(const machine& x) const override {
    if (x.virt_mode != "hvm" && x.virt_mode != "pvh")
      return wrong_mode(x, "choose hvm or pvh");
    auto document = pugi::xml_document{};
    auto root = add(document, "domain", {{"type", is_accelerated(x) ? "kvm" : "qemu"}});
    add(root, "name", {}, x.name);
    add(root, "uuid", {}, x.uuid);
    for (auto tag : {"memory", "currentMemory"})
      add(root, tag, {{"unit", "MiB"}}, std::to_string(x.memory));
    add(root, "vcpu", {{"placement", "static"}}, std::to_string(x.vcpus));
    add_firmware_entries(root, x);
    add_os(root, x);
    auto features = add(root, "features");
    add(features, "acpi");
    add(features, "apic");
    if (is_accelerated(x))
      add(root, "cpu", {{"mode", "host-passthrough"}});
    add(root, "clock", {{"offset", "utc"}});
    add_endings(root);
    auto devices = add(root, "devices");
    add_controllers(devices, x);
    if (auto added = add_disks(devices, x); !added)
      return tl::unexpected{added.error()};
    for (auto* leg : {&x.bridged.uplink, &x.bridged.downlink})
      if (!leg->bridge.empty())
        add_interface(devices, *leg);
    for (auto& pci : x.required_pci)
      add_pci(devices, pci);
    add_channels(devices);
    add_panic(devices);
    return written(document);
  }

  preparation needs(const machine& x) const override {
    return {.bridges = bridges_of(x), .file_systems = {}};
  }

  std::string interface(const machine& x) const override {
    auto document = pugi::xml_document{};
    add_interface(document, x.bridged.uplink);
    return written(document);
  }

  std::string disk(const block_attachment& x, std::string_view frontend) const override {
    auto document = pugi::xml_document{};
    auto asked = option(x.options, "frontend-dev");
    add_disk(document, as_disk(x, asked.empty() ? frontend : std::string_view{asked}));
    return written(document);
  }

  std::string pci(const pci_attachment& x, bool) const override {
    auto document = pugi::xml_document{};
    add_pci(document, x);
    return written(document);
  }
};

} // namespace

const renderer& the_renderer() {
  static const auto only = qemu_renderer{};
  return only;
}

} // namespace qubes::model::xml::qemu
