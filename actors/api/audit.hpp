// actors/api: requests on their way in, replies and events on their way out.
//
// The audit line: which caller asked for what, and the result. Reads have none.
#pragma once

#include "actors/common/method.hpp"

namespace qubes::actors {

/// The process at the other end.
struct caller {
  int pid = 0;
  unsigned uid = 0;
};

audit_entry begin_audit(const call& x, const method& row, const caller& peer);

void log_audit(const audit_entry& x, const model::outcome<std::string>& how, std::int64_t now_us);

} // namespace qubes::actors
