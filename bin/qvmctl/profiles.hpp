// Backup profiles, the files that the daemon makes backups by.
#pragma once

#include "bin/qvmctl/commands.hpp"

namespace qubes::ctl {

/// `backup ls` without a file.
exit_code list_profiles(session& s);

} // namespace qubes::ctl
