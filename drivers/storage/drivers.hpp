// The drivers this daemon is built with. Their options and limits are declared once, for all
// layers, in model::pool_drivers().
#pragma once

#include "drivers/storage/pool.hpp"
#include "model/system/host.hpp"

#include <memory>

namespace qubes::drivers::storage {

using factory = outcome<std::shared_ptr<pool>> (*)(const model::pool& config,
                                                   const environment& with);

struct driver_row {
  std::string_view name; ///< as in model::pool_drivers()
  factory open;
};

/// Sorted by name.
const std::vector<driver_row>& driver_rows();

/// Refuses a configuration that the driver cannot work with, and drivers not built in.
outcome<std::shared_ptr<pool>> open_pool(const model::pool& config, const environment& with);

/// What callback pools can be configured to work with, from the file of their configurations.
model::callback_pools read_callbacks(const std::string& path);
model::callback_pools parse_callbacks(std::string_view json);

outcome<std::shared_ptr<pool>> open_callback_pool(const model::pool& config,
                                                  const environment& with);
outcome<std::shared_ptr<pool>> open_file_pool(const model::pool& config, const environment& with);
outcome<std::shared_ptr<pool>> open_file_reflink_pool(const model::pool& config,
                                                      const environment& with);
outcome<std::shared_ptr<pool>> open_linux_kernel_pool(const model::pool& config,
                                                      const environment& with);
outcome<std::shared_ptr<pool>> open_lvm_thin_pool(const model::pool& config,
                                                  const environment& with);
outcome<std::shared_ptr<pool>> open_zfs_pool(const model::pool& config, const environment& with);

} // namespace qubes::drivers::storage
