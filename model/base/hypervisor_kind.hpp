// Kinds of hypervisor and what each can and cannot do: one table, which the driver, the rules of
// domains, help and docs/hypervisors.md read. What has no meaning on a kind is absent there.
#pragma once

#include "model/base/error.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qubes::model {

enum class hypervisor_kind : std::uint8_t { xen, qemu, lxc, test };

/// Which of the host's hypervisors has a domain.
enum class hypervisor_id : std::uint8_t { host, containers };
inline constexpr std::size_t hypervisor_count = 2;
inline constexpr std::array all_hypervisors{hypervisor_id::host, hypervisor_id::containers};

/// The configuration key that says where the hypervisor is.
constexpr std::string_view key_of(hypervisor_id x) noexcept {
  return x == hypervisor_id::host ? "hypervisor.uri" : "hypervisor.containers.uri";
}

struct abilities {
  bool paused_start = true; ///< else create() starts at once; the caller suspends
  bool attach = true;       ///< else attach and detach succeed without effect until the next start
  bool sleep = true;        ///< S3; else a pause takes its place
  bool guest_shutdown = true; ///< shutdown waits for the guest; else it is instant
  bool host_news = true;      ///< tells when a device of the host comes or goes
  bool disks = true;          ///< can be attached to a running guest
  bool interfaces = true;
  bool pci = true;
  bool backends = true;       ///< guests serve others' disks and interfaces
  bool kernels = true;        ///< boots a kernel of the host's
  bool memory_hotplug = true; ///< what a running guest has may grow beyond what it began with
  bool stub_domains = true;
  bool xenstore = true;
  bool qubesdb = true; ///< of the guest
  bool agent = true;   ///< qrexec's, in the guest
  bool memory_manager = true;
  bool emulation = false; ///< of the processor, where that cannot run guests itself
  bool statistics = true;

  bool operator==(const abilities&) const = default;
};

struct kind_row {
  hypervisor_kind id;
  std::string_view name;    ///< as texts call it
  std::string_view scheme;  ///< of libvirt's URIs
  std::string_view libvirt; ///< libvirt's name of the driver
  std::string_view place;   ///< the roles it may have: "host", "containers", "both"
  abilities can;
};

// clang-format off
inline constexpr std::array kind_rows{
  kind_row{hypervisor_kind::xen, "xen", "xen", "Xen", "host", {}},
  kind_row{hypervisor_kind::qemu, "qemu", "qemu", "QEMU", "host",
           {.backends = false, .memory_hotplug = false, .stub_domains = false, .xenstore = false,
            .qubesdb = false, .agent = false, .memory_manager = false, .emulation = true}},
  kind_row{hypervisor_kind::lxc, "lxc", "lxc", "LXC", "containers",
           {.paused_start = false, .sleep = false, .pci = false, .backends = false,
            .kernels = false, .memory_hotplug = false, .stub_domains = false, .xenstore = false,
            .qubesdb = false, .agent = false, .memory_manager = false}},
  // Stands in for another one.
  kind_row{hypervisor_kind::test, "test", "test", "TEST", "both",
           {.paused_start = false, .attach = false, .sleep = false, .guest_shutdown = false}},
};
// clang-format on

constexpr const kind_row& row(hypervisor_kind x) noexcept {
  return kind_rows[static_cast<std::size_t>(x)];
}

/// By libvirt's name of its driver.
std::optional<hypervisor_kind> find_kind(std::string_view libvirt) noexcept;

/// What a URI of the configuration leads to. Refuses what is no URI of a kind that may be there,
/// and says which may.
outcome<hypervisor_kind> kind_of_uri(hypervisor_id where, std::string_view uri);

/// A domain's virt_mode: the hypervisor that it is for.
struct virt_mode_row {
  std::string_view name;
  hypervisor_id where;
  bool pci; ///< takes PCI devices
};

inline constexpr std::array virt_mode_rows{
    virt_mode_row{"hvm", hypervisor_id::host, true},
    virt_mode_row{"pv", hypervisor_id::host, true},
    virt_mode_row{"pvh", hypervisor_id::host, false},
    virt_mode_row{"lxc", hypervisor_id::containers, false},
};

/// Null for none.
constexpr const virt_mode_row* find_virt_mode(std::string_view name) noexcept {
  for (auto& x : virt_mode_rows)
    if (x.name == name)
      return &x;
  return nullptr;
}

/// The table for people: kinds beside each other, an ability a row, as Markdown.
std::string describe_kinds();

} // namespace qubes::model
