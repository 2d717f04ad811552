// A domain's libvirt XML (spec/libvirt-xml.md). Rendering is apart from gathering, so that the
// worked examples of the spec, which are inputs of a renderer, test it directly. Each kind of
// hypervisor has a renderer (model/xml/renderer.hpp).
#pragma once

#include "model/base/hypervisor_kind.hpp"
#include "model/device/auto_attach.hpp"
#include "model/system/guest.hpp"
#include "model/system/view.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace qubes::model::xml {

struct block_device {
  std::string volume; ///< root, private, volatile, kernel, or another name
  std::string path;
  bool rw = true;
  std::string domain; ///< back end, "" for dom0
  std::string devtype = "disk";
};

struct block_attachment {
  std::string backend;
  std::string port;
  std::string node; ///< /dev/...
  std::map<std::string, std::string> options;
  bool backend_is_dom0 = false;
  bool backend_has_script = false; ///< the agent there is new enough for the qubes-block script
};

struct pci_attachment {
  std::string segment, bus, device, function; ///< hex digits without 0x
  std::map<std::string, std::string> options;
};

/// An interface at a bridge of the host, where guests do not serve each other.
struct bridge_leg {
  std::string bridge; ///< "" for none
  std::string mac;
  bool own = true; ///< a bridge of ours, else one that the host has
};

/// What domains have whose interfaces are at bridges; some of it only containers.
struct bridged_part {
  std::string init = "/sbin/init";
  std::vector<std::string> init_arguments;
  std::string volatile_at; ///< where its volatile volume is mounted, "" for nowhere
  bridge_leg uplink;       ///< to its netvm, or to a given bridge
  bridge_leg downlink;     ///< to its clients, when it provides network
  std::string gateway, gateway6;
};

/// Everything a renderer needs, nothing it has to look up.
struct machine {
  std::string name, uuid;
  hypervisor_kind form = hypervisor_kind::xen;    ///< the kind whose XML it gets
  std::string virt_mode;                          ///< hvm, pvh, pv, lxc
  std::int64_t memory = 0, maxmem = 0, vcpus = 0; ///< MiB
  bool memory_hotplug = false;
  bool has_pci = false;
  unsigned cpu_family = 0, cpu_model = 0;
  std::string kernel, kernel_path, initramfs_path;
  std::string kernelopts_common, kernelopts, bootmode_kernelopts;
  bool debug = false;
  std::optional<std::int64_t> stubdom_mem;
  std::string mac, ip, ip6, netmask;
  std::string dns[2];
  std::optional<std::string> netvm; ///< name
  std::string netvm_gateway;
  std::optional<std::string> guivm; ///< name, when set
  bool guivm_running = false;
  std::int64_t audiovm_xid = -1;
  bool suspend_s0ix = false;                       ///< dom0 feature
  std::map<std::string, std::string> own_features; ///< of the domain itself
  std::map<std::string, std::string>
      template_features; ///< of its template chain, nearest first wins
  std::vector<block_device> volumes;
  std::vector<block_attachment> required_blocks;
  std::vector<std::string> reserved_frontends; ///< names that disks which come later ask for
  std::vector<pci_attachment> required_pci;
  bool accelerated = false; ///< by the processor, where that is a choice
  bridged_part bridged;
};

/// Volume -> device, as its driver gave it when it was started.
using devices = std::map<std::string, std::string, std::less<>>;

/// Gathers from the view; block and PCI devices are those of required assignments whose backend
/// is known and whose port is given. A PCI device behind a bridge is left to the caller: only sysfs
/// knows its address.
machine gather(const view& v, const domain& x, const devices& started = {});

/// Refuses an impossible virt_mode and too many disks.
outcome<std::string> render(const machine& x);

// -- fragments for hot-plug, beside those of a renderer -----------------------------------------

std::string render_net(const machine& x);

/// Enough of an interface to find it by with `live_device`.
std::string render_interface_key(std::string_view mac);

/// A PCI device of the host, by its address `SSSS:BB:DD.F`.
pci_attachment pci_at(std::string_view address, std::map<std::string, std::string> options);

/// Required PCI devices at the addresses that were found for them.
std::vector<pci_attachment> required_pci(const domain& x, const std::vector<device>& found);

/// Disks and PCI devices of others in a live domain's XML (spec/devices.md §7), without identities;
/// a PCI device has its address as its port. Nothing from what is no XML.
std::vector<attachment> attachments_in(std::string_view text);

/// A device of the host as libvirt describes it; nothing for other than PCI.
std::optional<device> pci_device(std::string_view node_device);

/// Front ends of all disks in a live domain's XML.
std::vector<std::string> disks_in(std::string_view text);

/// The front end of a disk (an element for hot-plug); "" for what is none.
std::string disk_target(std::string_view device);

/// The MAC of an interface (an element for hot-plug); "" for what is none.
std::string interface_mac(std::string_view device);

/// The bridge that an interface is at; "" for none.
std::string interface_bridge(std::string_view device);

/// Network interfaces in a live domain's XML.
std::vector<network_link> links_in(std::string_view text);

/// What the host calls its ends of a live domain's network interfaces; those without a name are
/// left out.
std::vector<std::string> interfaces_in(std::string_view text);

/// The device of a live domain's XML that `device` (an element for hot-plug) speaks of: interfaces
/// by MAC, disks by front end, backend and source, PCI devices by address; as text for a detach.
/// Nothing when the domain has none; `device` itself where nothing, or no XML, tells which it is.
std::optional<std::string> live_device(std::string_view domain, std::string_view device);

/// Whether this element for hot-plug is a network interface.
bool is_interface(std::string_view device);

/// The address a port `[SSSS_]BB_DD.F` stands for; nothing behind a bridge, where only sysfs knows
/// it.
std::optional<pci_attachment> pci_of(const assignment& x);

} // namespace qubes::model::xml
