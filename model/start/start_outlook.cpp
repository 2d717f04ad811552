#include "model/start/start_outlook.hpp"

#include "model/change/integrity.hpp"
#include "model/device/auto_attach.hpp"
#include "model/guest/extension.hpp"
#include "model/property/default_rules.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/memory.hpp"
#include "model/property/property.hpp"
#include "model/storage/volume.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace qubes::model {

// -- the rules ------------------------------------------------------------------------------------

outcome<void> check_has_starts(const domain& x) {
  if (x.is(admin_vm))
    return fail(errc::vm_not_halted, "dom0 is always running and cannot be started");
  if (x.is(remote_vm))
    return fail(errc::vm_not_halted,
                fmt::format("'{}' runs on another host and cannot be started here", x.name.str()));
  return {};
}

outcome<void> check_permitted(const view& v, const domain& x) {
  auto& name = x.name.str();
  if (auto* reason = find_feature(v, x, "prohibit-start", chain::own); reason && !reason->empty())
    return fail(errc::general, fmt::format("'{}' must not be started: {}", name, *reason),
                fmt::format("'qvmctl feature unset {} prohibit-start' allows it", name));
  if (!x.is(disp_vm))
    return {};
  auto* base = template_of(v, x);
  if (base && read_bool({v, base}, "template_for_dispvms"))
    return {};
  return fail(errc::general,
              fmt::format("the template of '{}' is no disposable template any more", name),
              "set its template_for_dispvms to True");
}

outcome<void> check_fit(const view& v, const domain& x) {
  return check_kind(v, x).and_then([&] { return allow_start(v, x); });
}

/// Who needs it is named before it is refused as paused; a preloaded disposable may be paused.
outcome<void> check_shutdown(const view& v, const domain& x, power state) {
  if (auto allowed = allow_stop(v, x); !allowed)
    return allowed;
  if (state != power::paused || is_preload(v, x))
    return {};
  return fail(errc::vm_not_running, fmt::format("'{}' is paused", x.name.str()),
              "unpause it first, or force the shutdown, which destroys it");
}

// -- the outlook ----------------------------------------------------------------------------------

std::string_view name_of(prospect x) noexcept {
  constexpr std::string_view names[]{"fine", "unknown", "short"};
  return names[static_cast<std::size_t>(x)];
}

namespace {

start_check by_rule(std::string_view about, const outcome<void>& rule) {
  if (rule)
    return {.about = about};
  return {.about = about,
          .how = prospect::short_of,
          .text = rule.error().text,
          .remedy = rule.error().hint};
}

outcome<void> check_all_permissions(const view& v, const domain& x) {
  return check_has_starts(x).and_then([&] { return check_permitted(v, x); }).and_then([&] {
    return check_fit(v, x);
  });
}

start_check of_hypervisor(const start_facts& known) {
  if (known.unreachable.empty())
    return {.about = "hypervisor"};
  return {.about = "hypervisor",
          .how = prospect::short_of,
          .text = fmt::format("the hypervisor is out of reach: {}", known.unreachable),
          .remedy = "qvmd keeps trying to reach it"};
}

// -- devices --

bool offers_nothing(const view& v, const assignment& x) {
  if (x.backend.empty() || x.backend == "dom0")
    return false;
  auto* backend = v.system.find(x.backend);
  return !backend || !listens(v, *backend);
}

/// Backends that do not run offer nothing; those that do would have to be asked.
outcome<void> check_backends(const view& v, const domain& x, std::string_view kind) {
  auto silent = x;
  for (auto& of_kind : silent.devices)
    std::erase_if(of_kind.assignments, [&](auto& y) { return !offers_nothing(v, y); });
  return check_required(silent, kind, {});
}

outcome<void> check_holders(const domain& x, std::string_view kind, const start_facts& known) {
  for (auto* how : required_of(x, kind))
    if (auto who = known.holder(kind, how->backend, how->port); !who.empty() && who != x.name.str())
      return fail(errc::general,
                  fmt::format("{} device {} is attached to '{}'", kind, event_text(*how), who),
                  "detach it there first");
  return {};
}

start_check of_devices(const view& v, const domain& x, const start_facts& known) {
  auto wanted = std::vector<std::string>{};
  for (auto& kind : device_kinds) {
    for (auto& it : assigned(x, kind.name))
      if (it.mode == assignment_mode::required)
        wanted.push_back(event_text(it));
    auto there = check_backends(v, x, kind.name).and_then([&] {
      return check_holders(x, kind.name, known);
    });
    if (there && kind.name == "pci" && known.host_pci)
      there = check_required(x, kind.name, *known.host_pci);
    if (!there)
      return by_rule("devices", there);
  }
  if (wanted.empty())
    return {.about = "devices"};
  return {.about = "devices",
          .how = prospect::unknown,
          .text = fmt::format("their backends will be asked for {}", fmt::join(wanted, ", "))};
}

// -- volumes --

start_check of_volumes(const view& v, const domain& x, const start_facts& known) {
  if (auto sound = check_volumes(v, x); !sound)
    return by_rule("volumes", sound);
  for (auto& it : x.volumes)
    if (auto failed = known.failed_volumes.find(fmt::format("{}:{}", it.pool, it.vid));
        failed != known.failed_volumes.end())
      return {.about = "volumes",
              .how = prospect::unknown,
              .text = fmt::format("volume '{}' is marked failed: {}", it.vid, failed->second),
              .remedy = "the start verifies it first"};
  return {.about = "volumes"};
}

start_check of_kernel(const view& v, const domain& x) {
  auto kernel = read_text({v, &x}, "kernel");
  if (kernel.empty() || v.machine.find_kernel(kernel))
    return {.about = "kernel"};
  return {.about = "kernel",
          .how = prospect::short_of,
          .text = fmt::format("the kernel '{}' is not installed in dom0", kernel),
          .remedy = "install it, or choose another one"};
}

start_check of_disk(const domain& x, const start_facts& known) {
  auto room = std::map<std::string, std::optional<std::uint64_t>>{};
  for (auto& it : x.volumes)
    if (!it.pool.empty() && it.rw) {
      auto found = known.pool_room.find(it.pool);
      room[it.pool] = found == known.pool_room.end() ? std::nullopt : std::optional{found->second};
    }
  auto result = start_check{.about = "disk"};
  auto texts = std::vector<std::string>{};
  for (auto& [pool, bytes] : room) {
    if (!bytes)
      result.how = std::max(result.how, prospect::unknown);
    else if (*bytes == 0)
      result.how = prospect::short_of;
    texts.push_back(bytes ? fmt::format("{} MiB free in pool '{}'", *bytes >> 20, pool)
                          : fmt::format("the room in pool '{}' is not known", pool));
  }
  result.text = fmt::format("{}", fmt::join(texts, ", "));
  if (result.how == prospect::short_of)
    result.remedy = "make room there";
  return result;
}

// -- the netvm and those behind it --

/// Netvms that a start of this domain would start, the nearest first.
std::vector<const domain*> started_too(const view& v, const domain& x) {
  auto result = std::vector<const domain*>{};
  for (auto* it = netvm_of(v, x); it && !serves(v.facts(*it).state); it = netvm_of(v, *it)) {
    if (std::ranges::find(result, it) != result.end())
      break;
    result.push_back(it);
  }
  return result;
}

std::vector<std::string> names_of(const std::vector<const domain*>& all) {
  auto result = std::vector<std::string>{};
  for (auto* x : all)
    result.push_back(x->name.str());
  return result;
}

start_check of_netvm(const view& v, const domain& x, const start_facts& known) {
  auto* netvm = netvm_of(v, x);
  if (!netvm)
    return {.about = "netvm", .text = "it has none"};
  if (auto provided = check_provider({v, &x}); !provided)
    return by_rule("netvm", provided);
  auto too = started_too(v, x);
  for (auto* it : too) {
    auto checks = {by_rule("netvm", check_all_permissions(v, *it)),
                   by_rule("netvm", check_provider({v, it})), of_devices(v, *it, known),
                   of_volumes(v, *it, known), of_kernel(v, *it)};
    for (auto& check : checks)
      if (check.how == prospect::short_of)
        return {.about = "netvm",
                .how = prospect::short_of,
                .text = fmt::format("netvm '{}' would not start: {}", it->name.str(), check.text),
                .remedy = check.remedy,
                .involved = names_of(too)};
  }
  return {.about = "netvm",
          .text = too.empty()
                      ? fmt::format("'{}' is up", netvm->name.str())
                      : fmt::format("{} would be started too", fmt::join(names_of(too), ", ")),
          .involved = names_of(too)};
}

// -- memory --

/// Running domains whose memory the manager moves.
std::vector<std::string> donors(const view& v, const domain& besides) {
  auto result = std::vector<std::string>{};
  for (auto& x : v.system.domains)
    if (x->is(qubes_vm) && x.get() != &besides && v.facts(*x).state == power::running
        && most_memory(v, *x) > 0)
      result.push_back(x->name.str());
  return result;
}

start_check of_memory(const view& v, const domain& x, const start_facts& known) {
  auto wanted = memory_to_reserve(v, x);
  for (auto* it : started_too(v, x))
    wanted += memory_to_reserve(v, *it);
  auto result = start_check{.about = "memory", .involved = donors(v, x)};
  if (!known.free_bytes) {
    result.how = prospect::unknown;
    result.text = fmt::format("{} MiB are wanted; how much is free is not known", wanted >> 20);
    return result;
  }
  result.text = fmt::format("{} MiB are wanted, {} MiB were free or could be given back {} s ago",
                            wanted >> 20, *known.free_bytes >> 20, known.free_age_s);
  if (*known.free_bytes < wanted) {
    result.how = prospect::short_of;
    result.remedy = "shut something down, or lower its memory";
  }
  return result;
}

// -- what the hypervisor is given --

start_check of_xml(const view& v, const domain& x) {
  auto xml = xml::render(xml::gather(v, x));
  return by_rule("xml", xml ? outcome<void>{} : tl::unexpected{xml.error()});
}

} // namespace

std::vector<start_check> start_outlook(const view& v, const domain& x, const start_facts& known) {
  if (auto starts = check_has_starts(x); !starts)
    return {by_rule("permission", starts)};
  return {by_rule("permission", check_all_permissions(v, x)),
          of_hypervisor(known),
          of_devices(v, x, known),
          of_volumes(v, x, known),
          of_kernel(v, x),
          of_netvm(v, x, known),
          of_memory(v, x, known),
          of_disk(x, known),
          of_xml(v, x)};
}

const start_check* first_shortfall(const std::vector<start_check>& all) {
  auto found = std::ranges::find(all, prospect::short_of, &start_check::how);
  return found == all.end() ? nullptr : &*found;
}

} // namespace qubes::model
