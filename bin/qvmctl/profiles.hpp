// Backup profiles, the files that the daemon makes backups by.
#pragma once

#include "bin/qvmctl/commands.hpp"

#include <string>
#include <system_error>
#include <vector>

namespace qubes::ctl {

/// Names of the profiles in the folder that --profiles or the environment names.
std::vector<std::string> profile_names(const std::string& folder, std::error_code& failed);

/// `--profiles`, else the environment's, else that of dom0.
std::string profiles_folder(const std::string& given);

/// `backup ls` without a file.
exit_code list_profiles(session& s);

} // namespace qubes::ctl
