// start, shutdown, kill, pause, unpause, suspend, resume and wait: many domains at once.
#pragma once

#include "bin/commands.hpp"

namespace qubes::ctl {

/// Runs the command of `s.command` on the domains it names.
exit_code run_deed(session& s);

/// `wait DOMAIN... --for STATE`.
exit_code run_wait(session& s);

} // namespace qubes::ctl
