// What a default rule may look at: the durable system, the live facts and the machine.
#pragma once

#include "model/system/host.hpp"
#include "model/system/live.hpp"
#include "model/system/system.hpp"

namespace qubes::model {

/// Cheap to copy, and kept by value only: a reference to one made in passing dangles. The parts
/// must outlive it.
struct view {
  const model::system& system;
  const live_board& board;
  const model::host& machine;

  live facts(const domain& x) const noexcept { return board.read(x.qid); }
};

/// State as clients see it: running counts only when the agent is there, if the domain has one
/// (spec/lifecycle.md §1). dom0 and remote domains always run.
power power_of(const view& v, const domain& x);

/// The hypervisor says active, or the domain is dom0.
bool is_running(const view& v, const domain& x);

} // namespace qubes::model
