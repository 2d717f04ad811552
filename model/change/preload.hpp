// Disposables that wait ready before a client asks for one (spec/vm-classes.md §7): how many, which
// are still good, and how their records change.
#pragma once

#include "model/change/change.hpp"
#include "model/change/plan.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// Names that a disposable template keeps ready, oldest first.
std::vector<std::string> preloaded(const domain& base);

/// The owner of a disposable that was made before a client asked for one.
enum class preload_stage : std::uint8_t {
  making,   ///< of its template, not ready yet
  ready,    ///< of its template, and waits
  promised, ///< to a client, until it runs
  given,    ///< its user's: nothing here touches it any more
  dying,    ///< no client's, until its record is gone
};

/// Only a disposable that was not promised can be let go.
constexpr bool may_become(preload_stage from, preload_stage to) noexcept {
  using enum preload_stage;
  switch (from) {
  case making: return to == ready || to == dying;
  case ready: return to == promised || to == given || to == dying;
  case promised: return to == given || to == dying;
  case given:
  case dying: return false;
  }
  return false;
}

/// How many disposables the template should have. What dom0 says counts for the default disposable
/// template.
std::size_t preload_most(const view& v, const domain& base);

/// Seconds until a gap is filled; negative: not while any is left.
double preload_delay(const view& v, const domain& base);

/// Bytes of memory that preloading leaves free.
std::uint64_t preload_reserve(const view& v);

/// Whether the agents in its disposables tell when they are ready.
bool can_preload(const view& v, const domain& base);

/// Services that tell when this disposable is ready.
std::vector<std::string> readiness_services(const view& v, const domain& x);

/// Whether the disposable was still being made ready.
bool is_unfinished(const domain& x);

/// Whether the disposable was made before a client asked, is on no list, and was given to no
/// client: a daemon died between two of its stages.
bool is_stray(const view& v, const domain& x);

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

/// For a new record, before it is on a list.
void begin_preload(domain& x);
/// A new disposable joins the list.
plan plan_preload_begun(const view& v, const domain& x);
/// The disposable waits, paused.
plan plan_preload_ready(const view& v, const domain& x);
/// The disposable leaves the list for a client. `creator` "" for none.
plan plan_preload_taken(const view& v, const domain& x, std::string_view creator);
/// The disposable runs for its user.
plan plan_preload_used(const view& v, const domain& x);
/// These disposables leave the list, and belong to no client; some may be gone already.
plan plan_preload_discarded(const view& v, const domain& base,
                            const std::vector<std::string>& names);
/// A part of it: the disposable belongs to no client.
plan plan_preload_disowned(const view& v, const domain& base, const domain& x);
/// A part of it: these names leave the list.
plan plan_preload_delisted(const view& v, const domain& base,
                           const std::vector<std::string>& names);

} // namespace qubes::model
