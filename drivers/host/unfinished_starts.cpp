#include "drivers/host/unfinished_starts.hpp"

#include <string_view>

namespace qubes::drivers {

namespace {

constexpr auto prefix = std::string_view{"starting-"};

std::string mark_of(const std::string& uuid) {
  return std::string{prefix} + uuid;
}

} // namespace

outcome<void> mark_start(disk& run, const std::string& uuid) {
  return run.write(mark_of(uuid), {});
}

outcome<void> unmark_start(disk& run, const std::string& uuid) {
  return run.remove(mark_of(uuid));
}

outcome<std::set<std::string, std::less<>>> marked_starts(disk& run) {
  return run.list({}).map([](const std::vector<std::string>& names) {
    auto result = std::set<std::string, std::less<>>{};
    for (auto& x : names)
      if (x.starts_with(prefix))
        result.insert(x.substr(prefix.size()));
    return result;
  });
}

} // namespace qubes::drivers
