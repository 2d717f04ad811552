// The one declared table of properties.

#include "model/property/default_rules.hpp"
#include "model/property/kernel_options.hpp"
#include "model/property/property_checks.hpp"
#include "model/property/property_guards.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace qubes::model {

namespace {

constexpr auto text = wire_type::text;
constexpr auto integer = wire_type::integer;
constexpr auto boolean = wire_type::boolean;
constexpr auto vm = wire_type::domain;
constexpr auto tag = wire_type::label;

constexpr auto any = settable::any;
constexpr auto halted = settable::halted;
constexpr auto once = settable::once;
constexpr auto never = settable::never;

constexpr std::uint8_t unique_vm = qubes_vm | remote_vm;    ///< has an identity of its own
constexpr std::uint8_t serving_vm = app_vm | standalone_vm; ///< may serve disposables
constexpr std::uint8_t undisposable = app_vm | template_class | standalone_vm;
constexpr std::uint8_t with_netvm = app_vm | standalone_vm | disp_vm;

constexpr auto no_guard = guard_rule{nullptr};

/// Computed values are not written to the file, and what is set once is not copied to clones.
constexpr property entry(std::string_view name, int holders, wire_type type, settable when,
                         int stage, default_rule fallback, check_rule check, guard_rule guard,
                         std::string_view help) {
  return {.name = name,
          .holders = static_cast<std::uint8_t>(holders),
          .type = type,
          .when = when,
          .stage = static_cast<std::uint8_t>(stage),
          .saved = when != never,
          .cloned = when != once,
          .fallback = fallback,
          .check = check,
          .guard = guard,
          .help = help};
}

namespace of = defaults;
namespace is_a = checks;

// clang-format off
constexpr std::array table{
  entry("appvm_default_bootmode", template_class, text, any, 4, of::appvm_default_bootmode, is_a::any_text, no_guard, "Boot mode of the domains based on this template that chose none."),
  entry("audiovm", qubes_vm, vm, any, 4, of::default_audiovm, is_a::local_domain, no_guard, "Domain that plays and records this one's sound."),
  entry("auto_cleanup", disp_vm, boolean, any, 2, of::no, is_a::boolean, no_guard, "Remove the disposable when it has shut down."),
  entry("autostart", qubes_vm, boolean, any, 2, of::no, is_a::boolean, no_guard, "Start the domain when the host boots."),
  entry("backup_timestamp", qubes_vm, integer, any, 2, of::nothing, is_a::integer, no_guard, "When the domain was last backed up, in seconds since 1970."),
  entry("bootmode", qubes_vm, text, any, 4, of::bootmode, is_a::any_text, no_guard, "Identifier of the boot mode used at the next start."),
  entry("check_updates_vm", global, boolean, any, 3, of::yes, is_a::boolean, no_guard, "Let new domains look for updates by themselves."),
  entry("clockvm", global, vm, any, 3, of::nothing, is_a::local_domain, no_guard, "Domain the others take the time from."),
  entry("debug", qubes_vm, boolean, any, 2, of::no, is_a::boolean, no_guard, "Start the domain with a console window and more messages."),
  entry("default_audiovm", global, vm, any, 3, of::dom0_name, is_a::local_domain, no_guard, "Audio domain of the domains that chose none."),
  entry("default_dispvm", admin_vm | undisposable, vm, any, 4, of::default_dispvm, is_a::disposable_template, no_guard, "Template of the disposables this domain asks for."),
  entry("default_dispvm", disp_vm, vm, any, 4, of::own_template, is_a::disposable_template, no_guard, "Template of the disposables this disposable asks for."),
  entry("default_dispvm", global, vm, any, 3, of::nothing, is_a::disposable_template, no_guard, "Disposable template of the domains that chose none."),
  entry("default_guivm", global, vm, any, 3, of::dom0_name, is_a::local_domain, no_guard, "GUI domain of the domains that chose none."),
  entry("default_kernel", global, text, any, 3, of::unset, is_a::kernel_name, guards::kernel_installed, "Kernel of the domains that chose none."),
  entry("default_netvm", global, vm, any, 3, of::nothing, is_a::local_domain, guards::default_netvm, "Network provider of the domains that chose none."),
  entry("default_pool", global, text, any, 3, of::default_pool, is_a::pool, no_guard, "Storage pool of new volumes."),
  entry("default_pool_kernel", global, text, any, 3, of::same_as_default_pool, is_a::pool, no_guard, "Storage pool of new kernel volumes."),
  entry("default_pool_private", global, text, any, 3, of::same_as_default_pool, is_a::pool, no_guard, "Storage pool of new private volumes."),
  entry("default_pool_root", global, text, any, 3, of::same_as_default_pool, is_a::pool, no_guard, "Storage pool of new root volumes."),
  entry("default_pool_volatile", global, text, any, 3, of::same_as_default_pool, is_a::pool, no_guard, "Storage pool of new volatile volumes."),
  entry("default_qrexec_timeout", global, integer, any, 3, of::number<60>, is_a::integer, no_guard, "Seconds to wait for the agent of domains that chose none."),
  entry("default_shutdown_timeout", global, integer, any, 3, of::number<60>, is_a::integer, no_guard, "Seconds to wait for the shutdown of domains that chose none."),
  entry("default_template", global, vm, any, 3, of::unset, is_a::template_domain, no_guard, "Template of new domains that name none."),
  entry("default_user", qubes_vm, text, any, 2, of::user, is_a::user_name, no_guard, "User that programs in the domain run as."),
  entry("devices_denied", local_vm, text, any, 2, of::empty, is_a::device_patterns, no_guard, "Kinds of devices that may not be attached, seven characters each."),
  entry("dispid", disp_vm, integer, once, 2, of::unset, is_a::number_of_domain, no_guard, "Number of the disposable, part of its name and addresses."),
  entry("dns", qubes_vm, text, never, 2, of::dns, is_a::any_text, no_guard, "Name servers the domain asks."),
  entry("gateway", qubes_vm, text, never, 2, of::gateway, is_a::any_text, no_guard, "IPv4 address that connected domains use as their gateway."),
  entry("gateway6", qubes_vm, text, never, 2, of::gateway6, is_a::any_text, no_guard, "IPv6 address that connected domains use as their gateway."),
  entry("guivm", qubes_vm, vm, any, 4, of::default_guivm, is_a::local_domain, no_guard, "Domain that shows this one's windows."),
  entry("icon", unique_vm, text, never, 2, of::icon, is_a::any_text, no_guard, "Name of the icon, made of the kind of domain and its label."),
  entry("icon", admin_vm, text, never, 2, of::dom0_icon, is_a::any_text, no_guard, "Name of the icon."),
  entry("include_in_backups", local_vm & ~disp_vm, boolean, any, 2, of::yes, is_a::boolean, no_guard, "Take the domain along in backups that name no domains."),
  entry("include_in_backups", disp_vm, boolean, any, 2, of::in_backups_unless_cleaned_up, is_a::boolean, no_guard, "Take the disposable along in backups that name no domains."),
  entry("include_in_backups", remote_vm, boolean, any, 2, of::no, is_a::boolean, no_guard, "Take the record along in backups that name no domains."),
  entry("installed_by_rpm", qubes_vm, boolean, any, 2, of::no, is_a::boolean, no_guard, "A package manager owns the domain, so it cannot be removed here."),
  entry("ip", qubes_vm, text, any, 2, of::ip, is_a::ipv4, no_guard, "IPv4 address."),
  entry("ip6", qubes_vm, text, any, 2, of::ip6, is_a::ipv6, no_guard, "IPv6 address."),
  entry("is_preload", disp_vm, boolean, never, 2, of::preload, is_a::boolean, no_guard, "The disposable was started ahead and waits to be used."),
  entry("kernel", qubes_vm, text, any, 2, of::kernel, is_a::kernel_name, guards::kernel, "Kernel the host provides; empty to boot the domain's own."),
  entry("kernelopts", qubes_vm, text, any, 4, of::kernelopts, is_a::kernel_options, no_guard, "Options added to the kernel's command line."),
  entry("keyboard_layout", qubes_vm, text, any, 2, of::keyboard_layout, is_a::keyboard_layout, no_guard, "Keyboard as layout+variant+options."),
  entry("keyboard_layout", admin_vm, text, any, 2, of::dom0_layout, is_a::keyboard_layout, no_guard, "Keyboard as layout+variant+options."),
  entry("klass", any_vm, text, never, 2, of::class_name, is_a::any_text, no_guard, "Class of the domain."),
  entry("label", any_vm, tag, any, 2, of::unset, is_a::label, no_guard, "Colour that marks the domain's windows, and so how far it is trusted."),
  entry("mac", qubes_vm, text, any, 2, of::mac, is_a::mac, no_guard, "Hardware address of the network interface."),
  entry("management_dispvm", qubes_vm, vm, any, 4, of::management_dispvm, is_a::disposable_template, no_guard, "Template of the disposables that manage this domain."),
  entry("management_dispvm", global, vm, any, 3, of::nothing, is_a::disposable_template, no_guard, "Management template of the domains that chose none."),
  entry("maxmem", qubes_vm, integer, any, 2, of::maxmem, is_a::not_negative, guards::maxmem, "Most memory the domain may be given, in MiB; 0 keeps it fixed."),
  entry("maxmem", admin_vm, integer, never, 2, of::dom0_memory, is_a::integer, no_guard, "Memory of dom0 in MiB."),
  entry("maxmem", global, integer, never, 3, of::host_memory, is_a::integer, no_guard, "Memory of the host in MiB."),
  entry("memory", qubes_vm, integer, any, 2, of::memory, is_a::positive, no_guard, "Memory at start in MiB."),
  entry("name", unique_vm, text, once, 2, of::unset, is_a::any_text, no_guard, "Name of the domain."),
  entry("name", admin_vm, text, never, 2, of::dom0_name, is_a::any_text, no_guard, "Name of the domain."),
  entry("netvm", with_netvm, vm, any, 4, of::default_netvm, is_a::local_domain, guards::netvm, "Domain that provides network to this one; empty for no network."),
  entry("netvm", template_class, vm, any, 4, of::nothing, is_a::local_domain, guards::netvm, "Domain that provides network to this one; empty for no network."),
  entry("no_cpus", global, integer, never, 3, of::host_cpus, is_a::integer, no_guard, "Processors of the host."),
  entry("provides_network", qubes_vm, boolean, any, 2, of::no, is_a::boolean, guards::provides_network, "Other domains may use this one as their netvm."),
  entry("qid", unique_vm, integer, once, 2, of::unset, is_a::number_of_domain, no_guard, "Number of the domain, part of its addresses."),
  entry("qid", admin_vm, integer, never, 2, of::number<0>, is_a::integer, no_guard, "Number of the domain."),
  entry("qrexec_timeout", qubes_vm, integer, any, 2, of::qrexec_timeout, is_a::positive, no_guard, "Seconds to wait for the domain's agent at start."),
  entry("relayvm", remote_vm, vm, any, 4, of::nothing, is_a::local_domain, no_guard, "Domain that passes calls on to the remote one."),
  entry("remote_name", remote_vm, text, any, 2, of::nothing, is_a::any_text, no_guard, "Name of the domain on its own host."),
  entry("shutdown_timeout", qubes_vm, integer, any, 2, of::shutdown_timeout, is_a::positive, no_guard, "Seconds to wait for the domain to shut down."),
  entry("start_time", qubes_vm, text, never, 2, of::start_time, is_a::any_text, no_guard, "When the domain was started, in seconds since 1970."),
  entry("stats_interval", global, integer, any, 3, of::number<3>, is_a::integer, no_guard, "Seconds between two reports of statistics."),
  entry("stubdom_mem", qubes_vm, integer, any, 2, of::nothing, is_a::positive, no_guard, "Memory of the stub domain in MiB; unset to let the host choose."),
  entry("stubdom_uuid", qubes_vm, text, never, 2, of::stubdom_uuid, is_a::any_text, no_guard, "UUID of the stub domain."),
  entry("stubdom_xid", qubes_vm, integer, never, 2, of::stubdom_xid, is_a::integer, no_guard, "Hypervisor's number of the stub domain; -1 for none."),
  entry("template", app_vm, vm, halted, 4, of::unset, is_a::own_template, guards::template_change, "Template whose root volume the domain uses."),
  entry("template", disp_vm, vm, halted, 4, of::unset, is_a::own_disposable_template, no_guard, "Domain the disposable is made of."),
  entry("template_for_dispvms", serving_vm, boolean, any, 2, of::no, is_a::boolean, guards::template_for_dispvms, "Disposables may be made of this domain."),
  entry("transport_rpc", remote_vm, text, any, 2, of::nothing, is_a::any_text, no_guard, "Service of the relay that carries calls to the remote domain."),
  entry("updateable", qubes_vm, boolean, never, 2, of::updates_itself, is_a::boolean, no_guard, "Updates installed in the domain stay."),
  entry("updateable", admin_vm, boolean, never, 2, of::yes, is_a::boolean, no_guard, "Updates installed in the domain stay."),
  entry("updatevm", global, vm, any, 3, of::nothing, is_a::local_domain, no_guard, "Domain that fetches updates for dom0."),
  entry("uuid", unique_vm, text, once, 2, of::unset, is_a::uuid, no_guard, "Identity of the domain, never used twice."),
  entry("uuid", admin_vm, text, never, 2, of::uuid_of_dom0, is_a::any_text, no_guard, "Identity of the domain."),
  entry("vcpus", qubes_vm, integer, any, 2, of::vcpus, is_a::positive, no_guard, "Virtual processors."),
  entry("virt_mode", qubes_vm, text, any, 2, of::virt_mode, is_a::virt_mode, guards::virt_mode, "How the domain is virtualised: pvh, hvm or pv; lxc for a container."),
  entry("visible_gateway", qubes_vm, text, never, 2, of::visible_gateway, is_a::any_text, no_guard, "IPv4 gateway as seen inside the domain."),
  entry("visible_gateway6", qubes_vm, text, never, 2, of::visible_gateway6, is_a::any_text, no_guard, "IPv6 gateway as seen inside the domain."),
  entry("visible_ip", qubes_vm, text, never, 2, of::visible_ip, is_a::any_text, no_guard, "IPv4 address as seen inside the domain."),
  entry("visible_ip6", qubes_vm, text, never, 2, of::visible_ip6, is_a::any_text, no_guard, "IPv6 address as seen inside the domain."),
  entry("visible_netmask", qubes_vm, text, never, 2, of::visible_netmask, is_a::any_text, no_guard, "IPv4 netmask as seen inside the domain."),
  entry("xid", qubes_vm, integer, never, 2, of::xid, is_a::integer, no_guard, "Hypervisor's number of the domain; -1 when it does not run."),
};
// clang-format on

static_assert(std::is_sorted(table.begin(), table.end(),
                             [](auto& a, auto& b) { return a.name < b.name; }));

/// The rows of one holder, in two orders.
struct index {
  static constexpr auto most = std::size_t{64};

  std::array<const property*, most> by_name{};
  std::array<const property*, most> listed{};
  std::size_t size = 0;

  constexpr std::span<const property* const> all() const noexcept { return {listed.data(), size}; }
};

constexpr auto holder_count = 7;

constexpr std::size_t place_of(holder who) noexcept {
  return static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(who)));
}

constexpr index make_index(int place) {
  auto result = index{};
  for (auto& x : table)
    if (x.holders >> place & 1)
      result.by_name[result.size++] = &x;
  result.listed = result.by_name;
  std::sort(result.listed.begin(), result.listed.begin() + result.size, [](auto a, auto b) {
    return a->stage != b->stage ? a->stage < b->stage : a->name < b->name;
  });
  return result;
}

constexpr auto indexes = [] {
  auto result = std::array<index, holder_count>{};
  for (auto i = 0; i < holder_count; ++i)
    result[static_cast<std::size_t>(i)] = make_index(i);
  return result;
}();

/// No holder has two rows of a name.
static_assert(std::all_of(indexes.begin(), indexes.end(), [](const index& x) {
  auto end = x.by_name.begin() + x.size;
  return std::adjacent_find(x.by_name.begin(), end,
                            [](auto a, auto b) { return a->name == b->name; })
         == end;
}));

} // namespace

std::span<const property> property_table() noexcept {
  return table;
}

const property* find_property(holder who, std::string_view name) noexcept {
  auto& [by_name, listed, size] = indexes[place_of(who)];
  auto end = by_name.begin() + size;
  auto found = std::lower_bound(by_name.begin(), end, name,
                                [](auto row, std::string_view x) { return row->name < x; });
  return found != end && (*found)->name == name ? *found : nullptr;
}

std::span<const property* const> properties_of(holder who) noexcept {
  return indexes[place_of(who)].all();
}

} // namespace qubes::model
