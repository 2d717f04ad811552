#include "model/device/auto_attach.hpp"

#include "model/base/literal.hpp"
#include "model/device/assignment_rules.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace qubes::model {

namespace {

constexpr auto unknown = std::string_view{"0000:0000::?******"};

/// A port says more than an identity, and both say most.
int specificity(const assignment& x) {
  return (x.port == "*" ? 0 : 2) + (x.identity == "*" ? 0 : 1);
}

bool is_free_for(const domain& x, const device& it) {
  return it.attachment.empty() || it.attachment == x.name.str();
}

/// The most specific assignments first; equal ones as they were made.
std::vector<const assignment*> ordered(const domain& x, std::string_view kind) {
  auto result = std::vector<const assignment*>{};
  for (auto& it : assigned(x, kind))
    result.push_back(&it);
  std::ranges::stable_sort(result, std::greater{}, [](auto* it) { return specificity(*it); });
  return result;
}

} // namespace

std::vector<const assignment*> required_of(const domain& x, std::string_view kind) {
  auto result = std::vector<const assignment*>{};
  for (auto& it : assigned(x, kind)) {
    if (it.mode != assignment_mode::required)
      continue;
    auto rival = std::ranges::find_if(result, [&](auto* other) {
      return it.port != "*" && other->backend == it.backend && other->port == it.port;
    });
    if (rival == result.end())
      result.push_back(&it);
    else if (specificity(it) > specificity(**rival))
      *rival = &it;
  }
  return result;
}

bool matches(const assignment& x, const device& it) {
  auto by_identity = x.identity == "*" || (x.identity == it.identity && x.identity != unknown);
  return (x.backend.empty() || x.backend == it.backend) && (x.port == "*" || x.port == it.port)
         && by_identity;
}

const assignment* assignment_for(const domain& x, std::string_view kind, const device& it) {
  auto ways = ordered(x, kind);
  auto found = std::ranges::find_if(ways, [&](auto* how) { return matches(*how, it); });
  return found == ways.end() ? nullptr : *found;
}

std::vector<taker> takers_of(const view& v, std::string_view kind, const device& it) {
  auto result = std::vector<taker>{};
  for (auto& x : v.system.domains) {
    if (!x->is(qubes_vm) || !is_running(v, *x) || x->name == it.backend)
      continue;
    if (denied_interface(it, read_text({v, x.get()}, "devices_denied")))
      continue;
    if (auto* how = assignment_for(*x, kind, it))
      result.push_back({x.get(), how});
  }
  return result;
}

std::vector<arrival> arrivals(const domain& who, std::string_view kind,
                              const std::vector<device>& offered) {
  auto result = std::vector<arrival>{};
  auto in_its_xml = find_device_kind(kind)->by == carrier::hypervisor;
  for (auto* how : ordered(who, kind)) {
    if (in_its_xml && how->mode == assignment_mode::required)
      continue;
    for (auto& it : offered) {
      auto taken = std::ranges::any_of(result, [&](auto& other) {
        return other.what.backend == it.backend && other.what.port == it.port;
      });
      if (!taken && it.attachment.empty() && matches(*how, it))
        result.push_back({it, *how});
    }
  }
  return result;
}

namespace {

/// dom0 always runs: a device that it does not offer is not plugged in.
std::string hint_for(const assignment& how) {
  if (how.backend == "dom0")
    return "plug it in, or unassign the device";
  return fmt::format("start '{}', or unassign the device",
                     how.backend.empty() ? "its backend" : how.backend);
}

bool can_only_be_read(const device& x) {
  return std::ranges::find(x.data, std::pair{std::string{"mode"}, std::string{"r"}})
         != x.data.end();
}

/// Clients may assign a disk with options that no disk has; it cannot be attached as they say.
outcome<void> check_options(std::string_view kind, const assignment& how) {
  if (kind == "block")
    for (auto& [key, value] : how.options)
      if (auto sound = check_disk_option(key, value); !sound)
        return sound;
  return {};
}

outcome<void> check_writable(const assignment& how, const device& x) {
  auto* says = find_option(how, "read-only");
  if (!can_only_be_read(x) || !says || parse_boolean(*says) != false)
    return {};
  return fail(errc::value, fmt::format("'{}' can only be read", x.port),
              "assign it with read-only=yes");
}

/// As the assignment says, of the device that was found for it.
assignment for_device(assignment how, const device& x) {
  how.backend = x.backend;
  how.port = x.port;
  how.identity = x.identity;
  return how;
}

/// `how`, for each device that it speaks of and no more specific assignment does; `how` itself when
/// there is none.
void add_found(std::vector<assignment>& to, const assignment& how,
               const std::vector<assignment>& all, const domain& x,
               const std::vector<device>& found) {
  auto before = to.size();
  for (auto& it : found) {
    auto is_told_better = std::ranges::any_of(all, [&](auto& other) {
      return other.mode == how.mode && specificity(other) > specificity(how) && matches(other, it);
    });
    if (is_free_for(x, it) && matches(how, it) && !is_told_better)
      to.push_back(for_device(how, it));
  }
  if (to.size() == before)
    to.push_back(how);
}

} // namespace

domain with_found(domain x, std::string_view kind, const std::vector<device>& found) {
  for (auto& of_kind : x.devices)
    if (of_kind.name == kind) {
      auto each = std::vector<assignment>{};
      for (auto& how : of_kind.assignments)
        add_found(each, how, of_kind.assignments, x, found);
      of_kind.assignments = std::move(each);
    }
  return x;
}

outcome<void> check_required(const domain& x, std::string_view kind,
                             const std::vector<device>& offered) {
  auto in_its_xml = find_device_kind(kind)->by == carrier::hypervisor;
  for (auto& how : assigned(x, kind)) {
    if (how.mode != assignment_mode::required)
      continue;
    if (auto sound = check_options(kind, how); !sound)
      return sound;
    auto there = std::ranges::find_if(offered, [&](auto& it) { return matches(how, it); });
    auto free = [&](auto& it) { return !in_its_xml || is_free_for(x, it); };
    auto mine = [&](auto& it) { return matches(how, it) && free(it); };
    for (auto& it : offered)
      if (auto sound = mine(it) ? check_writable(how, it) : outcome<void>{}; !sound)
        return sound;
    if (std::ranges::any_of(offered, mine))
      continue;
    auto title = std::string{kind};
    if (!title.empty())
      title[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(title[0])));
    if (there != offered.end())
      return fail(errc::general,
                  fmt::format("{} device {}:{} is attached to '{}'", title, there->backend,
                              there->port, there->attachment),
                  "detach it there first");
    return fail(errc::general, fmt::format("{} device {} is not available", title, event_text(how)),
                hint_for(how));
  }
  return {};
}

} // namespace qubes::model
