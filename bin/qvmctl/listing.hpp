// Columns of `qvmctl ls` and `qvmctl top`.
#pragma once

#include <string>
#include <vector>

namespace qubes::ctl {

/// But property:P and feature:F.
std::vector<std::string> column_names();

std::vector<std::string> top_column_names();

} // namespace qubes::ctl
