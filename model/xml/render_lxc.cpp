#include "model/base/characters.hpp"
#include "model/xml/disk_names.hpp"
#include "model/xml/render_parts.hpp"

#include <algorithm>

namespace qubes::model::xml::lxc {

namespace {

constexpr auto private_at = "/rw";
/// One of the scheduler's periods, in microseconds; the quota is one of them per processor.
constexpr auto period_us = std::int64_t{100'000};
/// All addresses that domains have: 10.137.0.0/16 and 10.138.0.0/16.
constexpr auto addresses_of_domains = "13";
constexpr auto addresses6_of_domains = "64";
/// A domain that provides network has this address at its bridge. That another address is on the
/// link cannot be said to libvirt, unless it is the peer's of an IPv4 address.
constexpr auto link_gateway6 = "fe80::1";

// -- file systems ---------------------------------------------------------------------------------

/// A loop device of the kernel has no more room for the name of its file, and libvirt uses none
/// whose name does not fit.
constexpr auto longest_image = std::size_t{63};
constexpr auto short_names = "/run/qvmd/disks";

bool is_device(const block_device& x) {
  return x.path.starts_with("/dev/");
}

std::string link_to(const machine& of, const block_device& x) {
  return is_device(x) || x.path.size() <= longest_image
             ? std::string{}
             : fmt::format("{}/{}/{}", short_names, of.name, x.volume);
}

/// Images are mounted by way of a loop device that libvirt sets up.
void add_file_system(pugi::xml_node to, const machine& of, const block_device& x,
                     const std::string& at) {
  auto node = add(to, "filesystem",
                  {{"type", is_device(x) ? "block" : "file"}, {"accessmode", "passthrough"}});
  if (!is_device(x))
    add(node, "driver", {{"type", "loop"}, {"format", "raw"}});
  auto link = link_to(of, x);
  add(node, "source", {{is_device(x) ? "dev" : "file", link.empty() ? x.path : link}});
  add(node, "target", {{"dir", at}});
  if (!x.rw)
    add(node, "readonly");
}

const block_device* find_volume(const machine& x, std::string_view name) {
  for (auto& volume : x.volumes)
    if (volume.volume == name)
      return &volume;
  return nullptr;
}

outcome<void> add_volumes(pugi::xml_node to, const machine& x) {
  auto root = find_volume(x, "root");
  if (!root)
    return fail(errc::vm_error, fmt::format("{} has no root volume to run from", x.name));
  add_file_system(to, x, *root, "/");
  if (auto own = find_volume(x, "private"))
    add_file_system(to, x, *own, private_at);
  if (auto scratch = find_volume(x, "volatile"); scratch && !x.bridged.volatile_at.empty())
    add_file_system(to, x, *scratch, x.bridged.volatile_at);
  return {};
}

void add_disk(pugi::xml_node to, const block_attachment& x, const std::string& target) {
  auto node = add(to, "disk", {{"type", "block"}, {"device", "disk"}});
  add(node, "source", {{"dev", x.node}});
  add(node, "target", {{"dev", target}});
  if (option(x.options, "read-only") == "yes")
    add(node, "readonly");
}

outcome<void> add_blocks(pugi::xml_node to, const machine& x) {
  return disk_names{}.name_blocks(x).map([&](const std::vector<std::string>& given) {
    for (auto i = std::size_t{0}; i < given.size(); ++i)
      add_disk(to, x.required_blocks[i], given[i]);
  });
}

// -- network --------------------------------------------------------------------------------------

pugi::xml_node add_interface(pugi::xml_node to, const bridge_leg& x) {
  auto node = add(to, "interface", {{"type", "bridge"}});
  add(node, "mac", {{"address", x.mac}});
  add(node, "source", {{"bridge", x.bridge}});
  return node;
}

/// A container's gateway is the only neighbour that it has; everything else is behind that.
void add_uplink(pugi::xml_node to, const machine& x) {
  auto& part = x.bridged;
  auto node = add_interface(to, part.uplink);
  if (part.gateway.empty() || x.ip.empty())
    return; // no provider of ours: it asks the network at its bridge
  add(node, "ip",
      {{"family", "ipv4"}, {"address", x.ip}, {"prefix", "32"}, {"peer", part.gateway}});
  auto six = !x.ip6.empty() && !part.gateway6.empty();
  if (six)
    add(node, "ip", {{"family", "ipv6"}, {"address", x.ip6}, {"prefix", "128"}});
  add(node, "route",
      {{"family", "ipv4"}, {"address", "0.0.0.0"}, {"prefix", "0"}, {"gateway", part.gateway}});
  if (!six)
    return;
  auto lead = [&](const std::string& where, const char* prefix) {
    add(node, "route",
        {{"family", "ipv6"}, {"address", where}, {"prefix", prefix}, {"gateway", link_gateway6}});
  };
  lead(part.gateway6, "128"); // or one that has clients would look for it among them
  lead("::", "0");
}

void add_downlink(pugi::xml_node to, const machine& x) {
  auto node = add_interface(to, x.bridged.downlink);
  if (!x.ip.empty())
    add(node, "ip", {{"family", "ipv4"}, {"address", x.ip}, {"prefix", addresses_of_domains}});
  if (x.ip6.empty())
    return;
  add(node, "ip", {{"family", "ipv6"}, {"address", x.ip6}, {"prefix", addresses6_of_domains}});
  add(node, "ip", {{"family", "ipv6"}, {"address", link_gateway6}, {"prefix", "64"}});
}

// -- the rest -------------------------------------------------------------------------------------

/// "primary-dns" is QUBES_PRIMARY_DNS.
std::string variable(std::string_view word) {
  auto result = fmt::format("QUBES_{}", word);
  std::ranges::transform(result, result.begin(), [](char c) { return c == '-' ? '_' : upper(c); });
  return result;
}

/// There is no QubesDB in a container: what its programs should know is in their environment.
void add_environment(pugi::xml_node os, const machine& x) {
  for (auto& [word, text] : told_to_programs(x))
    add(os, "initenv", {{"name", variable(word)}}, text);
}

void add_os(pugi::xml_node to, const machine& x) {
  auto os = add(to, "os");
  add(os, "type", {{"arch", "x86_64"}}, "exe");
  add(os, "init", {}, x.bridged.init);
  for (auto& word : x.bridged.init_arguments)
    add(os, "initarg", {}, word);
  add_environment(os, x);
}

void add_limits(pugi::xml_node to, const machine& x) {
  for (auto tag : {"memory", "currentMemory"})
    add(to, tag, {{"unit", "MiB"}}, std::to_string(x.memory));
  add(to, "vcpu", {{"placement", "static"}}, std::to_string(x.vcpus));
  auto tune = add(to, "cputune");
  add(tune, "period", {}, std::to_string(period_us));
  add(tune, "quota", {}, std::to_string(x.vcpus * period_us));
}

class lxc_renderer final : public renderer {
public:
  outcome<std::string> domain(const machine& x) const override {
    if (x.virt_mode != "lxc")
      return wrong_mode(x, "choose lxc");
    auto document = pugi::xml_document{};
    auto root = add(document, "domain", {{"type", "lxc"}});
    add(root, "name", {}, x.name);
    add(root, "uuid", {}, x.uuid);
    add_limits(root, x);
    add_os(root, x);
    add(add(root, "features"), "privnet"); // the host's network is never its own
    add(root, "clock", {{"offset", "utc"}});
    add_endings(root);
    auto devices = add(root, "devices");
    if (auto added = add_volumes(devices, x); !added)
      return tl::unexpected{added.error()};
    if (auto added = add_blocks(devices, x); !added)
      return tl::unexpected{added.error()};
    if (!x.bridged.uplink.bridge.empty())
      add_uplink(devices, x);
    if (!x.bridged.downlink.bridge.empty())
      add_downlink(devices, x);
    add(devices, "console", {{"type", "pty"}});
    return written(document);
  }

  preparation needs(const machine& x) const override {
    auto result = preparation{.bridges = bridges_of(x), .file_systems = {}};
    for (auto& volume : x.volumes) {
      auto scratch = volume.volume == "volatile" && !x.bridged.volatile_at.empty();
      auto own = volume.volume == "private" || scratch;
      if (own || volume.volume == "root")
        result.file_systems.push_back({.volume = volume.volume,
                                       .path = volume.path,
                                       .make = own,
                                       .link = link_to(x, volume)});
    }
    return result;
  }

  std::string interface(const machine& x) const override {
    auto document = pugi::xml_document{};
    add_uplink(document, x);
    return written(document);
  }

  std::string disk(const block_attachment& x, std::string_view frontend) const override {
    auto document = pugi::xml_document{};
    auto asked = option(x.options, "frontend-dev");
    add_disk(document, x, asked.empty() ? std::string{frontend} : asked);
    return written(document);
  }

  /// There is no way to give a PCI device to a container; it is never asked for.
  std::string pci(const pci_attachment&, bool) const override { return {}; }
};

} // namespace

const renderer& the_renderer() {
  static const auto only = lxc_renderer{};
  return only;
}

} // namespace qubes::model::xml::lxc
