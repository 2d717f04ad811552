// Disposables that wait ready before anybody asks for one (spec/vm-classes.md §7): how many, which
// are still good, and how their records change.
#pragma once

#include "model/change.hpp"
#include "model/plan.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// Names that a disposable template keeps ready, oldest first.
std::vector<std::string> preloaded(const domain& base);

/// How many it should have. What dom0 says counts for the default disposable template.
std::size_t preload_most(const view& v, const domain& base);

/// Seconds until a gap is filled; negative: not while any is left.
double preload_delay(const view& v, const domain& base);

/// Bytes of memory that preloading leaves free.
std::uint64_t preload_reserve(const view& v);

/// Whether its agents tell when a disposable is ready.
bool can_preload(const view& v, const domain& base);

/// Services that tell when this disposable is ready.
std::vector<std::string> readiness_services(const view& v, const domain& x);

/// It was still being made ready.
bool is_unfinished(const domain& x);

/// Whether a running disposable of the list can be handed out.
bool is_ready(const view& v, const domain& x);

/// The first thing in which a disposable is not what its template makes today.
std::optional<std::string> outdated(const view& v, const domain& x);

/// What a change means for the disposables of a template.
enum class preload_turn : std::uint8_t {
  review, ///< soon: such changes rarely come alone
  fill,   ///< now
  drop,
};
struct preload_news {
  std::string base;
  preload_turn what;
};
std::vector<preload_news> preload_news_of(const view& before, const view& after,
                                          const change& what);

// -- changes of records -------------------------------------------------------------------------

/// A new one joins the list.
plan plan_preload_begun(const view& v, const domain& x);
/// It waits, paused.
plan plan_preload_ready(const view& v, const domain& x);
/// It leaves the list for whoever asked. `creator` "" for nobody.
plan plan_preload_taken(const view& v, const domain& x, std::string_view creator);
/// It runs for its user.
plan plan_preload_used(const view& v, const domain& x);
/// These leave the list; some may be gone already.
plan plan_preload_delisted(const view& v, const domain& base,
                           const std::vector<std::string>& names);

} // namespace qubes::model
