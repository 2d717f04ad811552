// What a pool is told: its options, as clients and files write them.
#pragma once

#include "model/base/error.hpp"
#include "model/storage/pool_driver.hpp"

#include <string>
#include <string_view>

namespace qubes::model {

/// The pool without the options that say nothing of where it is: as long as this stays the same, it
/// is the same pool.
pool place_of(pool x);

/// Whether the pool has all options that its driver cannot do without.
outcome<void> check_whole(const pool_driver& driver, const pool& x);

/// The text that is kept for the value of an option; "" stands for what holds by default.
outcome<std::string> parse_option(const pool_driver& driver, std::string_view name,
                                  std::string_view text);

/// admin.pool.Add: one KEY=VALUE per line, `name` among them.
outcome<pool> parse_pool(std::string_view driver, std::string_view payload);

} // namespace qubes::model
