#include "model/backup/backup_summary.hpp"

#include "model/base/literal.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

constexpr auto separator = "------------------+--------------+--------------+\n";

std::string human(std::uint64_t bytes) {
  if (bytes < 1024)
    return fmt::format("{}", bytes);
  auto number = static_cast<double>(bytes) / 1024;
  for (auto unit : {"KiB", "MiB"}) {
    if (number < 1024)
      return fmt::format("{:.1f} {}", number, unit);
    number /= 1024;
  }
  return fmt::format("{:.1f} GiB", number);
}

std::string_view kind_of(const view& v, const domain& x) {
  if (x.is(admin_vm))
    return "User home";
  if (x.is(template_class))
    return "Template VM";
  return x.is(qubes_vm) && read_bool({v, &x}, "updateable") ? "VM + Sys" : "VM";
}

std::string_view warning_of(const view& v, const domain& x) {
  if (!x.is(qubes_vm) || !is_running(v, x))
    return "";
  auto* own = x.find_volume("private");
  return own && own->revisions_to_keep < 0
             ? " <-- The VM is running and private volume snapshots are disabled. Backup will fail!"
             : " <-- The VM is running, backup will contain its state from before its start!";
}

} // namespace

std::string backup_summary(const view& v,
                           const std::vector<std::pair<std::string, std::uint64_t>>& sizes,
                           const std::vector<std::string>& idle) {
  auto text = std::string{separator};
  auto to = std::back_inserter(text);
  auto total = std::uint64_t{0};
  fmt::format_to(to, "{:>17} |{:>13} |{:>13} |\n{}", "VM", "type", "size", separator);
  for (auto& [name, bytes] : sizes) {
    auto* it = v.system.find(name);
    if (!it)
      continue;
    total += bytes;
    fmt::format_to(to, "{:>17} |{:>13} |{:>13} |{}\n", name, kind_of(v, *it), human(bytes),
                   warning_of(v, *it));
  }
  fmt::format_to(to, "{}{:>17} |{:>28} |\n{}VMs not selected for backup:\n", separator,
                 "Total size:", human(total), separator);
  auto others = std::vector<std::string_view>{};
  for (auto& it : v.system.domains)
    if (std::ranges::find(sizes, it->name.str(), [](auto& y) { return y.first; }) == sizes.end())
      others.push_back(it->name.str());
  std::ranges::sort(others);
  for (auto name : others)
    fmt::format_to(to, " - {}\n", name);
  if (!idle.empty())
    text += "In the profile, but matching no domain:\n";
  for (auto& word : idle)
    fmt::format_to(to, " - {}\n", quoted(word));
  return text;
}

} // namespace qubes::model
