#include "actors/boards/holders.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace qubes::actors {

using model::errc;

namespace {

model::error is_taken_by(const model::attachment& x, const std::string& holder,
                         const std::string& who) {
  auto code = errc::device_already_attached;
  if (holder == who)
    return {code, fmt::format("'{}' has {} device {}:{}", who, x.kind, x.backend, x.port), {}};
  return {code,
          fmt::format("{} device {}:{} is attached to '{}'", x.kind, x.backend, x.port, holder),
          "detach it first"};
}

template <class All>
auto by(All& all, const std::string& who) {
  return std::ranges::find_if(all, [&](auto& y) { return y.who == who; });
}

} // namespace

model::outcome<void> device_holders::take(const model::attachment& x, const std::string& who) {
  auto refusal = std::optional<model::error>{};
  state_.update([&](state& now) {
    auto& here = now.holdings[place_of(x)];
    auto other = std::ranges::find_if(now.unknown, [&](auto& y) { return y != who; });
    if (!here.empty())
      refusal = is_taken_by(x, here.front().who, who);
    else if (other != now.unknown.end() && x.kind == "block") // of other kinds another source tells
      refusal = model::error{errc::general,
                             fmt::format("it is not known yet which devices '{}' has", *other),
                             "try it again in a moment"};
    else
      here.push_back({.who = who, .what = x});
    if (here.empty())
      now.holdings.erase(place_of(x));
  });
  if (refusal)
    return tl::unexpected{std::move(*refusal)};
  return {};
}

void device_holders::found(const model::attachment& x, const std::string& who) {
  state_.update([&](state& now) {
    auto& here = now.holdings[place_of(x)];
    if (by(here, who) == here.end())
      here.push_back({.who = who, .what = x});
    by(here, who)->brought = true;
  });
}

void device_holders::brought(const place& x, const std::string& who) {
  state_.update([&](state& now) {
    auto i = now.holdings.find(x);
    if (i == now.holdings.end())
      return;
    if (auto mine = by(i->second, who); mine != i->second.end())
      mine->brought = true;
  });
}

std::map<std::string, std::string> device_holders::holders_known(std::string_view kind,
                                                                 std::string_view backend) const {
  auto result = std::map<std::string, std::string>{};
  auto now = state_.read();
  for (auto& [x, all] : now->holdings)
    for (auto& y : all)
      if (std::get<0>(x) == kind && std::get<1>(x) == backend && y.brought && !y.vacated)
        result.emplace(std::get<2>(x), y.who);
  return result;
}

bool device_holders::give_back(const place& x, const std::string& who) {
  auto frees = false;
  state_.update([&](state& now) {
    auto i = now.holdings.find(x);
    if (i == now.holdings.end())
      return;
    if (auto mine = by(i->second, who); mine != i->second.end()) {
      frees = mine->vacated && i->second.size() == 1;
      i->second.erase(mine);
    }
    if (i->second.empty())
      now.holdings.erase(i);
  });
  return frees;
}

std::vector<device_holders::place> device_holders::give_back_all(const std::string& who) {
  auto result = std::vector<place>{};
  for (auto& x : of_holder(who))
    if (give_back(place_of(x), who))
      result.push_back(place_of(x));
  return result;
}

std::vector<std::string> device_holders::vacate(const place& x, std::string_view identity) {
  auto result = std::vector<std::string>{};
  state_.update([&](state& now) {
    auto i = now.holdings.find(x);
    if (i == now.holdings.end())
      return;
    for (auto& y : i->second) {
      auto& theirs = y.what.identity; // "" when only the hypervisor told
      if (!identity.empty() && !theirs.empty() && theirs != identity)
        continue; // this domain has what is there now
      y.vacated = true;
      result.push_back(y.who);
    }
  });
  return result;
}

std::string device_holders::holder(const place& x) const {
  auto now = state_.read();
  auto i = now->holdings.find(x);
  if (i == now->holdings.end())
    return {};
  auto it = std::ranges::find(i->second, false, &holding::vacated);
  return it == i->second.end() ? std::string{} : it->who;
}

bool device_holders::is_taken(const place& x) const {
  auto now = state_.read();
  return now->holdings.contains(x);
}

std::vector<device_holders::place> device_holders::of_backend(std::string_view backend) const {
  auto result = std::vector<place>{};
  auto now = state_.read();
  for (auto& [x, all] : now->holdings)
    if (std::get<1>(x) == backend)
      result.push_back(x);
  return result;
}

std::vector<model::attachment> device_holders::of_holder(std::string_view who) const {
  auto result = std::vector<model::attachment>{};
  auto now = state_.read();
  for (auto& [x, all] : now->holdings)
    for (auto& y : all)
      if (y.who == who)
        result.push_back(y.what);
  return result;
}

void device_holders::doubt(const std::string& who) {
  state_.update([&](state& now) { now.unknown.insert(who); });
}

void device_holders::know(const std::string& who) {
  state_.update([&](state& now) { now.unknown.erase(who); });
}

} // namespace qubes::actors
