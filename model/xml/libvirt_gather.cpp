#include "model/base/split.hpp"
#include "model/device/assignment_rules.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/kernel_options.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/memory.hpp"
#include "model/property/property.hpp"
#include "model/storage/pool_driver.hpp"
#include "model/storage/volume.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace qubes::model::xml {

namespace {

constexpr auto only_neighbour = "255.255.255.255";
constexpr auto built_in_options =
    "root=/dev/mapper/dmroot ro nomodeset console=hvc0 rd_NO_PLYMOUTH rd.plymouth.enable=0 "
    "plymouth.enable=0 xen_privcmd.unrestricted ";

// -- kernel ---------------------------------------------------------------------------------------

/// Where the kernels of a domain are.
std::string kernels_of(const view& v, const domain& x) {
  auto volume = x.find_volume("kernel");
  auto home = volume ? v.system.find_pool(volume->pool) : nullptr;
  if (home && home->driver == "linux-kernel")
    return std::string{home->attribute("dir_path")};
  return v.machine.state_directory + "/vm-kernels";
}

std::string without_word(std::string_view text, std::string_view word) {
  auto result = std::string{};
  for (auto rest = text;;) {
    auto end = rest.find(' ');
    if (auto here = rest.substr(0, end); here != word) {
      result += here;
      result += end == rest.npos ? "" : " ";
    }
    if (end == rest.npos)
      return result;
    rest.remove_prefix(end + 1);
  }
}

/// A display controller among the assigned PCI devices, as their identities tell.
bool has_display(const domain& x) {
  for (auto& kind : x.devices)
    for (auto& device : kind.assignments)
      if (kind.name == "pci")
        for (auto display : {"p0300", "p0380"})
          if (device.identity.find(display, device.identity.rfind(':') + 1) != std::string::npos)
            return true;
  return false;
}

std::string without_dashes(std::string text) {
  std::erase(text, '-');
  return text;
}

std::string common_options(const view& v, const domain& x) {
  if (read_text({v, &x}, "kernel").empty())
    return {};
  auto used = kernel_of(v, x);
  auto options = used && used->common_options ? *used->common_options : built_in_options;
  if (!options.empty() && !options.ends_with(' '))
    options += ' ';
  if (has_feature(v, x, "no-nomodeset", chain::with_template, has_display(x)))
    options = without_word(options, "nomodeset");
  auto os = find_feature(v, x, "os", chain::with_template);
  if (os && *os == "Linux")
    return fmt::format("systemd.machine_id={} {}", without_dashes(x.uuid), options);
  return options;
}

const std::string* mode_options(const view& v, const domain& x, const std::string& mode) {
  return find_feature(v, x, fmt::format("boot-mode.kernelopts.{}", mode), chain::with_template);
}

/// A mode that is gone falls back to the default mode of the domain.
std::string boot_mode_options(const view& v, const domain& x) {
  auto mode = read_text({v, &x}, "bootmode");
  if (mode == "default")
    return {};
  auto options = mode_options(v, x, mode);
  if (!options)
    if (auto fallback = read_default({v, &x}, "bootmode");
        fallback && to_text(*fallback) != "default")
      options = mode_options(v, x, to_text(*fallback));
  return options ? fmt::format(" {}", *options) : std::string{};
}

void gather_kernel(const view& v, const domain& x, machine& to) {
  if (!abilities_of(v, x).kernels)
    return;
  to.kernel = read_text({v, &x}, "kernel");
  to.kernelopts = read_text({v, &x}, "kernelopts");
  to.kernelopts_common = common_options(v, x);
  to.bootmode_kernelopts = boot_mode_options(v, x);
  if (!to.kernel.empty()) {
    auto directory = fmt::format("{}/{}", kernels_of(v, x), to.kernel);
    auto used = v.machine.find_kernel(to.kernel);
    to.kernel_path = directory + "/vmlinuz";
    if (used && used->initramfs)
      to.initramfs_path = directory + "/initramfs";
  } else if (to.virt_mode != "hvm") {
    // The domain boots its own kernel, through a boot loader of ours.
    to.kernel_path = fmt::format("{}/vm-kernels/{}/vmlinuz", v.machine.state_directory,
                                 boot_loader_of(to.virt_mode));
  }
}

// -- volumes --------------------------------------------------------------------------------------

std::string replaced(std::string_view text, char from, std::string_view to) {
  auto result = std::string{};
  for (auto c : text)
    if (c == from)
      result += to;
    else
      result += c;
  return result;
}

bool is_volatile(const volume& x) {
  return !x.snap_on_start && !x.save_on_stop;
}

/// The device mapper joins group and volume by a dash and doubles the dashes inside.
std::string mapper_path(const std::string& vid) {
  return fmt::format("/dev/mapper/{}", replaced(replaced(vid, '-', "--"), '/', "-"));
}

/// The device of a started volume (spec/storage.md §4-§8), "" when it has none.
std::string path_of(const volume& x, const pool& home, const machine& to,
                    const model::kernel* used) {
  auto in_pool = fmt::format("{}/{}", home.attribute("dir_path"), x.vid);
  auto in_place = is_volatile(x) || (x.revisions_to_keep == -1 && !x.snap_on_start);
  if (home.driver == "file")
    return in_pool + ".img";
  if (home.driver == "file-reflink")
    return in_pool + "-dirty.img";
  if (home.driver == "lvm_thin")
    return mapper_path(in_place ? x.vid : x.vid + "-snap");
  if (home.driver == "zfs")
    return "/dev/zvol/" + x.vid;
  if (home.driver == "linux-kernel" && used && used->modules)
    return fmt::format("{}/{}/modules.img", home.attribute("dir_path"), to.kernel);
  return {};
}

void gather_volumes(const view& v, const domain& x, const devices& started, machine& to) {
  auto used = kernel_of(v, x);
  for (auto& volume : x.volumes) {
    auto home = v.system.find_pool(volume.pool);
    if (!home)
      continue;
    auto known = started.find(volume.name);
    auto path = is_ephemeral(v.system, volume)
                    ? "/dev/mapper/" + encrypted_name(*home, volume, x.name.str())
                : known != started.end() && !is_fixed(*home) ? known->second
                                                             : path_of(volume, *home, to, used);
    if (!path.empty())
      to.volumes.push_back(
          {.volume = volume.name, .path = std::move(path), .rw = volume.rw, .domain = {}});
  }
}

// -- devices --------------------------------------------------------------------------------------

std::map<std::string, std::string> options_of(const assignment& x) {
  auto result = std::map<std::string, std::string>{x.options.begin(), x.options.end()};
  if (auto guard = result.find("read-only"); guard != result.end())
    guard->second = parse_boolean(guard->second).value_or(true) ? "yes" : "no";
  return result;
}

block_attachment as_block(const view& v, const domain& backend, const assignment& x) {
  auto agent = find_feature(v, backend, "qubes-agent-version", chain::with_template);
  return {.backend = backend.name.str(),
          .port = x.port,
          .node = "/dev/" + replaced(x.port, '_', "/"),
          .options = options_of(x),
          .backend_is_dom0 = backend.name.is_dom0(),
          .backend_has_script = agent && *agent >= "4.2"};
}

bool is_hex(std::string_view text, std::size_t length) {
  return text.size() == length
         && text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

void gather_devices(const view& v, const domain& x, machine& to) {
  for (auto& disk : assigned(x, "block"))
    if (auto* name = find_option(disk, "frontend-dev");
        name && disk.mode != assignment_mode::required)
      to.reserved_frontends.push_back(*name);
  for (auto& kind : x.devices)
    for (auto* device : required_of(x, kind.name)) {
      auto backend = v.system.find(device->backend);
      if (!backend || device->port == "*")
        continue;
      if (kind.name == "block")
        to.required_blocks.push_back(as_block(v, *backend, *device));
      else if (auto pci = kind.name == "pci" ? pci_of(*device) : std::nullopt)
        to.required_pci.push_back(std::move(*pci));
    }
}

// -- the rest -------------------------------------------------------------------------------------

void gather_network(const view& v, const domain& x, machine& to) {
  to.mac = read_text({v, &x}, "mac");
  to.ip = read_text({v, &x}, "ip");
  to.ip6 = read_text({v, &x}, "ip6");
  to.netmask = is_networked(v, x) ? only_neighbour : "";
  auto servers = read_text({v, &x}, "dns");
  auto blank = servers.find(' ');
  to.dns[0] = servers.substr(0, blank);
  to.dns[1] = blank == servers.npos ? "" : servers.substr(blank + 1);
  if (auto netvm = netvm_of(v, x)) {
    to.netvm = netvm->name.str();
    to.netvm_gateway = read_text({v, netvm}, "gateway");
  }
}

// -- containers -----------------------------------------------------------------------------------

constexpr auto given_bridge = "net.bridge";

std::string own_feature(const domain& x, std::string_view name) {
  auto found = x.features.find(name);
  return found ? *found : std::string{};
}

void gather_bridged(const view& v, const domain& x, machine& to) {
  auto inherited = [&](std::string_view name) {
    auto found = find_feature(v, x, name, chain::with_template);
    return found ? *found : std::string{};
  };
  auto& part = to.bridged;
  const auto init = inherited("container.init");
  if (auto command = words_of(init); !command.empty()) {
    part.init = command.front();
    part.init_arguments.assign(command.begin() + 1, command.end());
  }
  part.volatile_at = inherited("container.volatile");
  auto netvm = netvm_of(v, x);
  if (auto given = own_feature(x, given_bridge); !given.empty())
    part.uplink = {.bridge = std::move(given), .mac = to.mac, .own = false};
  else if (netvm)
    part.uplink = {.bridge = bridge_of(*netvm), .mac = to.mac};
  if (provides_network(v, x))
    part.downlink = {.bridge = bridge_of(x), .mac = serving_mac(x)};
  if (netvm) {
    // What the netvm really has: addresses that are shown inside are not translated.
    part.gateway = read_text({v, netvm}, "ip");
    part.gateway6 = read_text({v, netvm}, "ip6");
  }
}

void gather_gui(const view& v, const domain& x, machine& to) {
  if (auto guivm = read_domain({v, &x}, "guivm")) {
    to.guivm = guivm->name.str();
    to.guivm_running = is_running(v, *guivm);
  }
  if (auto audiovm = read_domain({v, &x}, "audiovm"))
    to.audiovm_xid = audiovm->name.is_dom0() ? 0 : v.facts(*audiovm).xid;
}

void gather_features(const view& v, const domain& x, machine& to) {
  to.own_features.insert(x.features.begin(), x.features.end());
  for (auto at = template_of(v, x); at; at = template_of(v, *at))
    to.template_features.insert(at->features.begin(), at->features.end());
  auto dom0 = v.system.find("dom0");
  to.suspend_s0ix = dom0 && has_feature(v, *dom0, "suspend-s0ix", chain::own);
}

} // namespace

std::optional<pci_attachment> pci_of(const assignment& x) {
  auto result = pci_attachment{
      .segment = "0000", .bus = {}, .device = {}, .function = {}, .options = options_of(x)};
  auto rest = std::string_view{x.port};
  if (rest.size() > 5 && rest[4] == '_') {
    result.segment = rest.substr(0, 4);
    rest.remove_prefix(5);
  }
  if (rest.size() != 7 || rest[2] != '_' || rest[5] != '.')
    return std::nullopt;
  result.bus = rest.substr(0, 2);
  result.device = rest.substr(3, 2);
  result.function = rest.substr(6);
  if (!is_hex(result.segment, 4) || !is_hex(result.bus, 2) || !is_hex(result.device, 2)
      || !is_hex(result.function, 1))
    return std::nullopt;
  return result;
}

pci_attachment pci_at(std::string_view address, std::map<std::string, std::string> options) {
  return {.segment = std::string{address.substr(0, 4)},
          .bus = std::string{address.substr(5, 2)},
          .device = std::string{address.substr(8, 2)},
          .function = std::string{address.substr(11)},
          .options = std::move(options)};
}

std::vector<pci_attachment> required_pci(const domain& x, const std::vector<device>& found) {
  auto result = std::vector<pci_attachment>{};
  auto given = std::set<std::string>{};
  for (auto* how : required_of(x, "pci")) {
    auto it = std::ranges::find_if(found, [&](auto& y) { return matches(*how, y); });
    if (it != found.end() && given.insert(it->port).second)
      result.push_back(pci_at(it->data.at(0).second, options_of(*how)));
  }
  return result;
}

machine gather(const view& v, const domain& x, const devices& started) {
  auto result = machine{};
  auto number = [&](std::string_view name) { return read_int({v, &x}, name); };
  result.name = x.name.str();
  result.uuid = x.uuid;
  result.form = form_of(v, x);
  result.virt_mode = read_text({v, &x}, "virt_mode");
  result.memory = number("memory");
  result.maxmem = most_memory(v, x);
  result.vcpus = number("vcpus");
  result.memory_hotplug = can_hotplug_memory(v, x);
  result.has_pci = x.has_pci();
  result.accelerated = v.machine.kvm;
  result.cpu_family = v.machine.cpu_family;
  result.cpu_model = v.machine.cpu_model;
  result.debug = read_bool({v, &x}, "debug");
  if (auto memory = number("stubdom_mem"); memory > 0)
    result.stubdom_mem = memory;
  gather_kernel(v, x, result);
  gather_network(v, x, result);
  gather_gui(v, x, result);
  gather_features(v, x, result);
  gather_volumes(v, x, started, result);
  gather_devices(v, x, result);
  gather_bridged(v, x, result);
  return result;
}

} // namespace qubes::model::xml
