// qvmd(8) and qvmd.toml(5), made of the tables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qubes {

struct described_option {
  std::string name; ///< with its dashes
  std::string help;
};

/// For man(1): "qvmd" or "qvmd.toml"; "" for any other.
std::string manual_page(std::string_view name, const std::vector<described_option>& options);

} // namespace qubes
