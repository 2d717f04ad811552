#include "drivers/storage/drivers.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace qubes::drivers::storage {

const std::vector<driver_row>& driver_rows() {
  // clang-format off
  static const auto rows = std::vector<driver_row>{
      {"callback",     open_callback_pool},
      {"file",         open_file_pool},
      {"file-reflink", open_file_reflink_pool},
      {"linux-kernel", open_linux_kernel_pool},
      {"lvm_thin",     open_lvm_thin_pool},
      {"zfs",          open_zfs_pool},
  };
  // clang-format on
  return rows;
}

outcome<std::shared_ptr<pool>> open_pool(const model::pool& config, const environment& with) {
  auto& rows = driver_rows();
  auto row = std::ranges::find(rows, config.driver, &driver_row::name);
  if (row != rows.end())
    return row->open(config, with);
  auto names = std::vector<std::string_view>{};
  for (auto& x : rows)
    names.push_back(x.name);
  return model::fail(
      model::errc::storage,
      fmt::format("pool '{}': driver '{}' cannot be used on this host", config.name, config.driver),
      fmt::format("use {}", fmt::join(names, " or ")));
}

} // namespace qubes::drivers::storage
