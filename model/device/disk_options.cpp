#include "model/device/disk_options.hpp"

#include "model/base/literal.hpp"
#include "model/device/assignment_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

namespace qubes::model {

namespace {

using disk_name_set = std::set<std::string, std::less<>>;

/// Names in the order in which disks get them that come to a running domain; xvda to xvdd are its
/// own (spec/libvirt-xml.md §4). A start has another order (model/xml/disk_names.hpp).
const std::vector<std::string>& frontends() {
  static const auto all = [] {
    auto result = std::vector<std::string>{};
    for (auto x = 'i'; x <= 'z'; ++x)
      result.push_back(fmt::format("xvd{}", x));
    for (auto x = 'a'; x <= 'z'; ++x)
      for (auto y = 'a'; y <= 'z'; ++y)
        result.push_back(fmt::format("xvd{}{}", x, y));
    for (auto x = 'e'; x <= 'h'; ++x)
      result.push_back(fmt::format("xvd{}", x));
    return result;
  }();
  return all;
}

/// `preferred` if no disk has it, else the first that none has; "" when all are taken.
std::string free_frontend(const disk_name_set& taken, const std::string& preferred) {
  if (!preferred.empty() && !taken.contains(preferred))
    return preferred;
  auto it = std::ranges::find_if_not(frontends(), [&](auto& x) { return taken.contains(x); });
  return it == frontends().end() ? std::string{} : *it;
}

} // namespace

std::string_view option_of(const device_options& all, std::string_view key) {
  auto it = std::ranges::find(all, key, [](auto& x) { return x.first; });
  return it == all.end() ? std::string_view{} : std::string_view{it->second};
}

outcome<device_options> complete_disk_options(const device& disk, const device_options& given,
                                              const view& v, const domain& owner,
                                              const std::vector<attachment>& attached) {
  auto taken = disk_name_set{};
  for (auto& x : attached)
    taken.emplace(option_of(x.options, "frontend-dev"));
  auto read_only = option_of(disk.data, "mode") == "r";
  auto frontend = std::string{};
  auto kind = std::string{"disk"};
  for (auto& [key, value] : given) {
    if (auto sound = check_disk_option(key, value); !sound)
      return tl::unexpected{std::move(sound.error())};
    if (key == "frontend-dev") {
      frontend = value;
    } else if (key == "devtype") {
      kind = value;
    } else {
      auto wanted = parse_boolean(value).value_or(false);
      if (!wanted && read_only)
        return fail(errc::value, fmt::format("'{}' can only be read", disk.port),
                    "attach it with read-only=yes");
      read_only = wanted;
    }
  }
  if (auto sound = check_not_own(v, owner, frontend); !sound)
    return tl::unexpected{std::move(sound.error())};
  if (!frontend.empty() && taken.contains(frontend))
    return fail(errc::general, fmt::format("another disk is {} already", frontend),
                "choose another frontend-dev, or none");
  for (auto& own : own_disks(v, owner))
    taken.insert(own);
  for (auto& other : assigned(owner, "block"))
    taken.emplace(option_of(other.options, "frontend-dev"));
  if (frontend.empty()) // where its modules are not, a guest looks for a disc
    frontend = free_frontend(taken, kind == "cdrom" ? "xvdd" : "");
  if (frontend.empty())
    return fail(errc::general, "no name for another disk is free", "detach one first");
  auto result = device_options{{"read-only", read_only ? "yes" : "no"}, {"frontend-dev", frontend}};
  if (kind != "disk")
    result.emplace_back("devtype", kind);
  return result;
}

} // namespace qubes::model
