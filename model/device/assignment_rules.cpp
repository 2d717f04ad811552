#include "model/device/assignment_rules.hpp"

#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/device/auto_attach.hpp"
#include "model/device/device.hpp"
#include "model/device/passing.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"
#include "model/system/device_class.hpp"
#include "model/system/pci_port.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

outcome<void> check_option_text(std::string_view key, std::string_view value) {
  if (!is_device_key(key))
    return fail(errc::value, fmt::format("a device has no option {}", quoted(key)));
  if (key == "identity") // files of older releases have the identity there
    return fail(errc::value, "the identity of a device is none of its options",
                "write it behind the port");
  if (!std::ranges::all_of(value, is_printable))
    return fail(errc::value, fmt::format("the value of option {} cannot be printed", quoted(key)));
  return {};
}

outcome<void> check_texts(std::string_view kind, const assignment& x) {
  for (auto* text : {&x.port, &x.identity})
    if (!is_device_text(*text))
      return fail(errc::value, fmt::format("{} names no device", quoted(*text)),
                  "ports and identities are printable, without quotes, slashes and '+'");
  if (kind != "pci" && x.port.find(':') != std::string::npos) // the identity would begin there
    return fail(errc::value, fmt::format("{} is no port", quoted(x.port)), "ports have no ':'");
  for (auto& [key, value] : x.options)
    if (auto sound = check_option_text(key, value); !sound)
      return sound;
  return {};
}

/// Two disks that are both there at the start need two names.
outcome<void> check_frontend(const view& v, const domain& owner, const assignment& x) {
  auto name = find_option(x, "frontend-dev");
  if (!name)
    return {};
  if (auto sound = check_not_own(v, owner, *name); !sound)
    return sound;
  if (x.mode != assignment_mode::required)
    return {};
  for (auto* other : required_of(owner, "block"))
    if (auto taken = find_option(*other, "frontend-dev");
        taken && *taken == *name && (other->backend != x.backend || other->port != x.port))
      return fail(errc::value,
                  fmt::format("{} is the name of {} already", quoted(*name), event_text(*other)),
                  "choose another frontend-dev, or none");
  return {};
}

/// No device has another port or identity, and the hypervisor passes none to a PVH guest.
outcome<void> check_pci(const domain& owner, const assignment& x) {
  if (auto mode = owner.properties.find("virt_mode");
      mode != owner.properties.end() && to_text(mode->second) == "pvh")
    return fail(errc::value, fmt::format("'{}' is pvh and takes no PCI devices", owner.name.str()),
                "set virt_mode to hvm first");
  if (x.port != "*" && !is_pci_port(x.port))
    return fail(errc::value, fmt::format("{} is no port of a PCI device", quoted(x.port)),
                "write an address like 00:1f.6, or a port as it is listed, like 00_1c.0-00_00.0");
  if (!is_device_identity("pci", x.identity))
    return fail(errc::value, fmt::format("{} is no identity of a PCI device", quoted(x.identity)),
                "write it as it is listed, like 0x8086:0xa12f::p0c0330, or *");
  return {};
}

/// What no start and no attachment could ever bring about.
outcome<void> check_possible(const view& v, const domain& owner, std::string_view kind,
                             const assignment& x) {
  if (x.backend == owner.name.str())
    return fail(errc::value, fmt::format("'{}' has what it offers itself", owner.name.str()),
                "assign it to another domain");
  auto backend = v.system.find(x.backend);
  if (backend && backend->is(remote_vm))
    return fail(errc::value,
                fmt::format("'{}' runs on another host and offers no devices here", x.backend));
  if (backend && is_passing(v, *backend))
    return fail(errc::value, fmt::format("'{}' is removed when it stops", x.backend),
                "reset its auto_cleanup first, or attach the device without an assignment");
  if (kind == "pci" && owner.is(admin_vm))
    return fail(errc::value, "dom0 has all PCI devices that nobody else has");
  auto* row = find_device_kind(kind);
  if (row && row->by != carrier::hypervisor && owner.is(admin_vm))
    return fail(errc::value, "dom0 takes no devices from others");
  if (row && row->listing.empty() && !x.backend.empty() && x.backend != "dom0")
    return fail(errc::value, fmt::format("'{}' offers no {} devices", x.backend, kind),
                "they are of dom0");
  if (row && !row->port.empty() && x.port != "*" && x.port != row->port)
    return fail(errc::value, fmt::format("{} is no port of {}", quoted(x.port), row->help),
                fmt::format("it is '{}'", row->port));
  if (kind == "pci")
    if (auto sound = check_pci(owner, x); !sound)
      return sound;
  if (row && row->by != carrier::hypervisor)
    return check_passing(kind, x.options);
  if (kind != "block")
    return {};
  for (auto key : {"read-only", "frontend-dev", "devtype"})
    if (auto value = find_option(x, key))
      if (auto sound = check_disk_option(key, *value); !sound)
        return sound;
  return check_frontend(v, owner, x);
}

} // namespace

const std::string* find_option(const assignment& x, std::string_view key) {
  auto it = std::ranges::find(x.options, key, [](auto& y) { return y.first; });
  return it == x.options.end() ? nullptr : &it->second;
}

bool is_device_text(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return is_printable(c) && c != ' ' && c != '\'' && c != '/' && c != '+';
  });
}

bool is_device_key(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return is_printable(c) && c != ' ' && c != '\'' && c != '"' && c != '`' && c != '=';
  });
}

bool is_device_identity(std::string_view kind, std::string_view text) {
  return is_device_text(text) && (kind != "pci" || text == "*" || is_pci_identity(text));
}

std::vector<std::string> own_disks(const view& v, const domain& x) {
  auto result = std::vector<std::string>{"xvda", "xvdb", "xvdc"};
  if (x.is(qubes_vm) && !read_text({v, &x}, "kernel").empty())
    result.emplace_back("xvdd");
  return result;
}

outcome<void> check_not_own(const view& v, const domain& owner, std::string_view name) {
  auto own = own_disks(v, owner);
  if (std::ranges::find(own, name) == own.end())
    return {};
  return fail(errc::value,
              fmt::format("{} is a disk of '{}' itself", quoted(name), owner.name.str()),
              "choose another frontend-dev, or none");
}

outcome<void> check_disk_names(const view& v) {
  for (auto& x : v.system.domains)
    for (auto& it : assigned(*x, "block"))
      if (auto name = find_option(it, "frontend-dev"))
        if (auto sound = check_not_own(v, *x, *name); !sound)
          return sound;
  return {};
}

outcome<void> check_assignment(const view& v, const domain& owner, std::string_view kind,
                               const assignment& x) {
  if (auto sound = check_texts(kind, x); !sound)
    return sound;
  return check_possible(v, owner, kind, x);
}

} // namespace qubes::model
