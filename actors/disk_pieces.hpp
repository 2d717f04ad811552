// What there is to do with volumes and pools, one row per task: the calls, made in the volume's own
// turn and judged by the volume as it is then.
#pragma once

#include "drivers/disks.hpp"
#include "messages/types.hpp"
#include "model/volume.hpp"

#include <string_view>

namespace qubes::actors {

/// Work that takes the same places of a pool: what may take long never takes those of starts, and
/// neither those that a stop or a removal needs.
enum class disk_places : std::uint8_t { brief, copies, starts, ends };

struct disk_piece {
  using volume_ref = const model::volume&;

  disk_task what;
  std::string_view word; ///< for refusals and progress
  /// `it` is the job's volume, or an empty one where the job is about none.
  model::outcome<disk_report> (*run)(drivers::disks&, const disk_job&, volume_ref it,
                                     const drivers::supervision&);
  disk_places places = disk_places::brief;
  bool heals = false;    ///< its success shows that the volume is well
  bool harmless = false; ///< may be done to a volume that is marked failed
  bool follows = false;  ///< concerns a domain's volume as it is in the turn, and nobody else's
  /// Takes a success back that nobody waits for any more; null where there is nothing to take back.
  void (*undo)(drivers::disks&, const disk_job&, volume_ref it, const disk_report&) = nullptr;
};

const disk_piece& piece_of(disk_task x);

} // namespace qubes::actors
