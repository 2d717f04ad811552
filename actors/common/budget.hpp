// What each domain may have under way at a time, so that none takes the places of the others:
// orders and subscriptions, one for each connection. dom0 has no limit, and a part of all places to
// itself.
#pragma once

#include "actors/common/settings.hpp"
#include "drivers/server/server.hpp"
#include "model/base/error.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <map>
#include <string>

namespace qubes::actors {

/// Used by the server's thread alone.
class budget {
public:
  /// A connection of this domain begins what lasts; refused when that would be one too many.
  model::outcome<void> take(drivers::connection_id who, const std::string& caller, bool is_dom0,
                            const settings& most) {
    if (is_dom0)
      return {};
    auto& held = by_caller_[caller];
    if (held >= most.caller_requests)
      return model::fail(
          model::errc::general,
          fmt::format("'{}' has {} requests under way, as many as a domain may have", caller, held),
          "wait for their ends; limits.caller_requests says how many are allowed");
    if (by_connection_.size() >= most.others_requests)
      return model::fail(model::errc::general,
                         fmt::format("domains have {} requests under way, the rest is dom0's",
                                     by_connection_.size()),
                         "limits.others_requests says how many are allowed");
    if (by_connection_.emplace(who, caller).second)
      ++held;
    return {};
  }

  /// The connection is closed.
  void give_back(drivers::connection_id who) {
    auto x = by_connection_.extract(who);
    if (!x)
      return;
    auto caller = by_caller_.find(x.mapped());
    if (--caller->second == 0)
      by_caller_.erase(caller);
  }

  /// Domains with something under way, dom0 excepted, and how much.
  const std::map<std::string, std::size_t>& by_caller() const { return by_caller_; }

private:
  std::map<drivers::connection_id, std::string> by_connection_;
  std::map<std::string, std::size_t> by_caller_;
};

} // namespace qubes::actors
