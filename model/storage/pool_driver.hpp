// model/storage: volumes and the pools that they are in, as values and rules.
//
// The kinds of storage pools: what they can be told and what they can do, declared once for the
// Admin API, the checks of requests, and the drivers themselves (drivers/storage/drivers.cpp).
#pragma once

#include "model/system/host.hpp"
#include "model/system/system.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// An option of a pool.
struct pool_option {
  std::string_view name;
  bool required;
};

/// A kind of storage, with the options in the order of listings (spec/storage.md §4-§9).
struct pool_driver {
  static constexpr auto no_limit = std::numeric_limits<std::int64_t>::max();

  std::string_view name;
  std::vector<pool_option> options;
  std::string_view help;
  std::int64_t most_revisions = no_limit; ///< of a volume
  bool fixed = false; ///< volumes are there or not, named by a property, and never changed: kernels
  bool in_place = false;  ///< guests write to the committed state itself
  bool hears_all = false; ///< also of the creation of volumes that are made at every start
  /// Id of the volume `name` of a domain; null when `fixed`.
  std::string (*vid)(const pool& home, const domain& owner, std::string_view name) = nullptr;

  bool has_option(std::string_view option) const noexcept;
};

/// Sorted by name.
const std::vector<pool_driver>& pool_drivers();

/// Null for a driver of another version.
const pool_driver* find_pool_driver(std::string_view name) noexcept;

/// The pool that does the work: another one where commands run around it.
const pool& working_pool(const host& machine, const pool& x) noexcept;

/// Whether this pool holds kernels: volumes that are fixed.
bool is_fixed(const pool& x) noexcept;

/// Whether there is anything to do in this pool when a domain with this volume is created.
bool is_made_at_creation(const pool& home, const volume& x) noexcept;

/// How many revisions a volume of this pool can keep.
std::int64_t most_revisions(const pool& x) noexcept;

} // namespace qubes::model
