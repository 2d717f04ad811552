// The passphrase of a backup: from a file, or from a terminal that does not show it.
#pragma once

#include "bin/qvmctl/commands.hpp"
#include "model/base/secret.hpp"

#include <stop_token>
#include <string>

namespace qubes::ctl {

/// The first line of --passphrase-file, else what is typed; `twice` for one that is new.
expected<model::secret> read_passphrase(session& s, bool twice, std::stop_token stop);

} // namespace qubes::ctl
