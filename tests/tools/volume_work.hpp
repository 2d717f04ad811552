// One step of storage work on a pool of images, known by name, so that a program of its own can do
// the step and be killed in the middle.
#pragma once

#include "drivers/storage/drivers.hpp"

#include <string>
#include <string_view>

namespace qubes::tests {

/// The volumes that the steps are about.
drivers::storage::volume worked_on(); ///< keeps its data, and one revision
drivers::storage::volume other_one(); ///< the source of imports
drivers::storage::volume snapshot();  ///< of `other_one`
drivers::storage::volume scratch();   ///< keeps no data
drivers::storage::volume in_place();  ///< `worked_on`, without snapshots

model::outcome<void> do_step(drivers::storage::pool& pool, std::string_view step);

} // namespace qubes::tests
