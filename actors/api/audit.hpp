// The audit line: who asked for what, and what became of it. Of what only reads there is none.
#pragma once

#include "actors/common/method.hpp"

namespace qubes::actors {

/// Who is at the other end.
struct caller {
  int pid = 0;
  unsigned uid = 0;
};

audit_entry begin_audit(const call& x, const method& row, const caller& peer);

void log_audit(const audit_entry& x, const model::outcome<std::string>& how, std::int64_t now_us);

} // namespace qubes::actors
