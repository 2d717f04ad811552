#include "model/storage/pool_driver.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

std::string by_class(const pool&, const domain& owner, std::string_view name) {
  return fmt::format("{}/{}/{}", row(owner.type).directory, owner.name.str(), name);
}

std::string in_volume_group(const pool& home, const domain& owner, std::string_view name) {
  return fmt::format("{}/vm-{}-{}", home.attribute("volume_group"), owner.name.str(), name);
}

std::string in_container(const pool& home, const domain& owner, std::string_view name) {
  return fmt::format("{}/{}/{}", home.attribute("container"), owner.name.str(), name);
}

} // namespace

bool pool_driver::has_option(std::string_view option) const noexcept {
  return std::ranges::find(options, option, &pool_option::name) != options.end();
}

const std::vector<pool_driver>& pool_drivers() {
  static const auto table = std::vector<pool_driver>{
      {.name = "callback",
       .options = {{"conf_id", true}},
       .help = "another pool, with commands run around its work",
       .hears_all = true,
       .vid = by_class},
      {.name = "file",
       .options = {{"revisions_to_keep", false}, {"dir_path", true}, {"ephemeral_volatile", false}},
       .help = "image files, snapshots by device mapper",
       .most_revisions = 1,
       .in_place = true,
       .vid = by_class},
      {.name = "file-reflink",
       .options = {{"revisions_to_keep", false},
                   {"dir_path", true},
                   {"setup_check", false},
                   {"ephemeral_volatile", false}},
       .help = "image files on a file system that can share blocks",
       .vid = by_class},
      {.name = "linux-kernel",
       .options = {{"dir_path", true}},
       .help = "kernels, one directory each",
       .most_revisions = 0,
       .fixed = true},
      {.name = "lvm_thin",
       .options = {{"revisions_to_keep", false},
                   {"volume_group", true},
                   {"thin_pool", true},
                   {"ephemeral_volatile", false}},
       .help = "logical volumes of an LVM thin pool",
       .vid = in_volume_group},
      {.name = "zfs",
       .options = {{"revisions_to_keep", false},
                   {"container", true},
                   {"ephemeral_volatile", false},
                   {"snap_on_start_forensics", false}},
       .help = "volumes of a ZFS dataset",
       .vid = in_container},
  };
  return table;
}

const pool_driver* find_pool_driver(std::string_view name) noexcept {
  auto& all = pool_drivers();
  auto row = std::ranges::find(all, name, &pool_driver::name);
  return row == all.end() ? nullptr : &*row;
}

const pool& working_pool(const host& machine, const pool& x) noexcept {
  auto found = x.driver == "callback" ? machine.callbacks.find(x.attribute("conf_id"))
                                      : machine.callbacks.end();
  return found == machine.callbacks.end() ? x : found->second;
}

bool is_fixed(const pool& x) noexcept {
  auto* row = find_pool_driver(x.driver);
  return row && row->fixed;
}

bool is_made_at_creation(const pool& home, const volume& x) noexcept {
  auto* row = find_pool_driver(home.driver);
  return x.save_on_stop || !row || row->hears_all;
}

std::int64_t most_revisions(const pool& x) noexcept {
  auto* row = find_pool_driver(x.driver);
  return row ? row->most_revisions : pool_driver::no_limit;
}

} // namespace qubes::model
