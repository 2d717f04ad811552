// Whole stores for tests of loading: of this release, and of machines that were upgraded.
#pragma once

#include "tests/model/canonical.hpp"

#include <algorithm>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

namespace qubes::tests {

struct store {
  std::string name;
  std::string text;
};

inline void PrintTo(const store& x, std::ostream* out) {
  *out << x.name;
}

/// Stores of machines that were upgraded from earlier releases.
inline std::vector<store> stores_of_releases() {
  auto result = std::vector<store>{};
  for (auto release : {"r4.0", "r4.2"}) {
    auto text = read_file(std::string{QVMD_SOURCE_DIR} + "/tests/golden/releases/" + release
                          + "/qubes.xml");
    constexpr auto state = std::string_view{"@STATE@"};
    for (auto at = text.find(state); at != text.npos; at = text.find(state, at))
      text.replace(at, state.size(), "/var/lib/qubes");
    auto name = std::string{release};
    std::ranges::replace(name, '.', '_');
    result.push_back({std::move(name), std::move(text)});
  }
  return result;
}

inline std::vector<store> all_stores() {
  auto result = stores_of_releases();
  for (auto& x :
       std::filesystem::directory_iterator{std::string{QVMD_SOURCE_DIR} + "/tests/golden/qubes"})
    result.push_back({x.path().stem().string(), read_file(x.path().string())});
  std::ranges::sort(result, {}, &store::name);
  return result;
}

} // namespace qubes::tests
