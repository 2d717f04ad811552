// What happened, as clients of admin.Events see it.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace qubes::model {

struct event {
  std::string subject; ///< a domain's name, "" for the host
  std::string name;    ///< e.g. "property-set:netvm"
  std::vector<std::pair<std::string, std::string>> args;

  bool operator==(const event&) const = default;
};

} // namespace qubes::model
