// Columns of `qvmctl ls`.
#pragma once

#include <string>
#include <vector>

namespace qubes::ctl {

/// But property:P and feature:F.
std::vector<std::string> column_names();

} // namespace qubes::ctl
