#include "model/change/foreign.hpp"

#include "model/storage/pool_options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

namespace qubes::model {

namespace {

bool has_guests(const system& x) {
  for (auto& who : x.domains)
    if (who->is(qubes_vm))
      return true;
  return false;
}

/// What a stop does to the disk of a running guest is the same by both records.
bool are_one_disk(const volume& a, const volume& b) {
  auto place = [](const volume& x) {
    return std::tie(x.name, x.pool, x.vid, x.save_on_stop, x.snap_on_start, x.rw);
  };
  return place(a) == place(b);
}

bool has_moved(const pool* from, const pool* to) {
  return from && (!to || place_of(*from) != place_of(*to));
}

} // namespace

outcome<void> may_follow(const view& present, const system& written) {
  auto refuse = [](std::string_view why) {
    return fail(errc::store, fmt::format("qubes.xml cannot be used, all stays as it was: {}", why),
                "put it right, or the old one back, and send qvmd SIGHUP");
  };
  if (written.pools.empty() && !present.system.pools.empty())
    return refuse("it has no pools any more");
  if (!has_guests(written) && has_guests(present.system))
    return refuse("it has no domains any more");
  auto lost = std::vector<std::string>{};
  auto moved = std::vector<std::string>{};
  for (auto& x : present.system.domains) {
    if (present.facts(*x).state == power::halted)
      continue;
    auto* same = written.find(x->name.str());
    if (!same || same->uuid != x->uuid || same->qid != x->qid)
      lost.push_back(x->name.str());
    else if (!std::ranges::equal(x->volumes, same->volumes, are_one_disk)
             || std::ranges::any_of(x->volumes, [&](auto& it) {
                  return has_moved(present.system.find_pool(it.pool), written.find_pool(it.pool));
                }))
      moved.push_back(x->name.str());
  }
  if (!lost.empty())
    return refuse(fmt::format("what runs has no record in it, or one with another uuid or qid: {}",
                              fmt::join(lost, ", ")));
  if (!moved.empty())
    return refuse(fmt::format("what runs has other volumes in it: {}", fmt::join(moved, ", ")));
  return {};
}

} // namespace qubes::model
