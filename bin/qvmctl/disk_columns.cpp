#include "bin/qvmctl/disk_columns.hpp"

#include <algorithm>
#include <array>

namespace qubes::ctl {

namespace {

using nlohmann::json;

constexpr std::array kept_per_domain{"root", "private", "volatile"};

json bytes_of(const volume_facts& all, std::string_view volume, std::string_view key) {
  auto found = all.find(volume);
  auto bytes = found == all.end() ? std::nullopt : number_of(found->second, key);
  return bytes ? json(*bytes) : json{};
}

json fill_of(const volume_facts& all, std::string_view volume) {
  auto used = bytes_of(all, volume, "usage");
  auto size = bytes_of(all, volume, "size");
  if (used.is_null() || size.is_null() || size == 0)
    return {};
  return percent_of(used.get<std::int64_t>(), size.get<std::int64_t>());
}

json sum(const volume_facts& all) {
  auto result = json{};
  for (auto& [name, _] : all)
    if (auto used = bytes_of(all, name, "usage"); !used.is_null())
      result = (result.is_null() ? 0 : result.get<std::int64_t>()) + used.get<std::int64_t>();
  return result;
}

constexpr std::array table{
    disk_column{"disk", true, sum},
    disk_column{"priv_curr", true, [](auto& x) { return bytes_of(x, "private", "usage"); }},
    disk_column{"priv_max", true, [](auto& x) { return bytes_of(x, "private", "size"); }},
    disk_column{"priv_used", false, [](auto& x) { return fill_of(x, "private"); }},
    disk_column{"root_curr", true, [](auto& x) { return bytes_of(x, "root", "usage"); }},
    disk_column{"root_max", true, [](auto& x) { return bytes_of(x, "root", "size"); }},
    disk_column{"root_used", false, [](auto& x) { return fill_of(x, "root"); }},
};

} // namespace

std::span<const disk_column> disk_columns() noexcept {
  return table;
}

const disk_column* find_disk_column(std::string_view key) {
  auto found = std::ranges::find(table, key, &disk_column::key);
  return found == table.end() ? nullptr : &*found;
}

expected<std::map<const entry*, volume_facts>> fetch_volumes(session& s,
                                                             const std::vector<const entry*>& of) {
  auto asked = std::vector<request>{};
  for (auto x : of)
    for (auto volume : kept_per_domain)
      asked.push_back({"admin.vm.volume.Info", volume, x->name, ""});
  auto answers = ask_all(s, asked);
  auto result = std::map<const entry*, volume_facts>{};
  for (auto i = std::size_t{0}; i < asked.size(); ++i)
    if (answers[i])
      result[of[i / kept_per_domain.size()]][asked[i].argument] = pairs_of(*answers[i]);
    else if (answers[i].error().kind != trouble::refused)
      return tl::unexpected{answers[i].error()};
  return result;
}

} // namespace qubes::ctl
