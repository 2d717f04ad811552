// How a pool's jobs are done: calls that block, made in the volume's own turn and judged by the
// volume as it is then.
#pragma once

#include "drivers/storage/disks.hpp"
#include "messages/disk_jobs.hpp"
#include "model/system/system.hpp"

#include <cstdint>
#include <optional>

namespace qubes::actors {

/// Data that another program writes to a volume.
struct data_import {
  std::uint64_t bytes = 0;   ///< as many will come
  std::uint64_t resized = 0; ///< the size its volume was given meanwhile; 0 for none
};

/// The volume that a job is about, as it is when the job's turn has come.
struct volume_turn {
  model::system_ptr system;
  model::domain_ptr owner;
  model::volume it;
  bool guest_at_work = false; ///< on it
  std::optional<data_import> import{};
  mutable bool import_ended = false; ///< by the job, said by the thread that does it
};

/// Does the job, with its own function. `at` is null for a job that is about no volume.
model::outcome<pool_result> do_job(drivers::disks& with, const pool_job& x, const volume_turn* at,
                                   const drivers::supervision& watch);

/// Takes back what was done, and found, when no request waits for it any more.
void undo_job(drivers::disks& with, const pool_job& x, const volume_turn* at,
              const pool_result& found);

} // namespace qubes::actors
