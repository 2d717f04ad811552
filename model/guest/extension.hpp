// model/guest: what guests are told and what they ask for.
//
// What parts of the system outside the core add to a domain's life: one interface, and a file for
// each of them in model/guest/extensions/ (spec/app.md §9).
#pragma once

#include "model/base/package.hpp"
#include "model/change/draft.hpp"
#include "model/change/plan.hpp"
#include "model/guest/features_request.hpp"
#include "model/guest/qubesdb.hpp"

#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace qubes::model {

/// A start, or all entries told again.
struct guest_start {
  view v;
  const domain& who;
  std::int64_t now_s;
};

/// A change that has become a fact.
struct transition {
  view before;
  view after;
  const change& what;
};

/// What running domains are told, by name.
using notices = std::map<std::string, qubesdb_edits, std::less<>>;

/// A plan that grows by what follows from it.
class sequel {
public:
  sequel(const view& v, plan first) : v_(v), plan_(std::move(first)) {}

  /// The system as the plan leaves it so far. What it shows stays valid.
  view now();

  /// Adds a consequence. When that is refused, so is the whole.
  void include(plan more);

  const plan& so_far() const noexcept { return plan_; }
  plan finish() && { return std::move(plan_); }

private:
  view v_;
  plan plan_;
  std::deque<model::system> states_;
  std::size_t seen_ = 0; ///< edits that the last of the states has
};

/// A part; null where it has nothing to say.
struct extension {
  std::string_view name;
  /// Keeps a domain from starting.
  outcome<void> (*may_start)(const view&, const domain&);
  /// Keeps a domain from shutting down, unless that is forced.
  outcome<void> (*may_stop)(const view&, const domain&);
  /// Entries of a domain that starts.
  outcome<void> (*at_start)(const guest_start&, qubesdb_edits&);
  /// What a domain that has just started means for others.
  void (*when_started)(const view&, const domain&, notices&);
  /// What a change means for those that run.
  void (*when_changed)(const transition&, notices&);

  /// The package whose presence switches the extension on; nothing for what is always on.
  std::optional<package> of{};
  /// What a planned event leads to.
  void (*when_told)(const event&, sequel&) = nullptr;
  /// What is granted of a guest's request, beside the core's own.
  void (*when_asked)(const domain&, const features_request&, draft&) = nullptr;
  /// What a record of an older file lacks; true when it was mended.
  bool (*when_loaded)(const view&, domain&) = nullptr;
};

/// In the order in which they speak.
std::span<const extension* const> extensions() noexcept;

outcome<void> allow_start(const view& v, const domain& x);
outcome<void> allow_stop(const view& v, const domain& x);
notices told_by_start(const view& v, const domain& x);
notices told_by_change(const transition& x);

/// The plan with all that follows from what it tells.
plan with_consequences(const view& v, plan x);
void grant_extensions(draft& to, const domain& owner, const features_request& request);
bool mend_extensions(const view& v, domain& x);

// -- for extensions -----------------------------------------------------------------------------

/// The domain an event tells of, also the one that `domain-add` does; null when there is none.
const domain* subject_of(const view& v, const event& x);

/// Whether the domain runs, so that its QubesDB can be written to. dom0 always does.
bool listens(const view& v, const domain& x);

/// The domain's id on the hypervisor as text; dom0 is 0.
std::string xid_text(const view& v, const domain& x);

/// Running domains that use `me` through this property, other than itself.
std::vector<const domain*> running_users(const view& v, const domain& me,
                                         std::string_view property);

/// Whether the change sets or resets this property, of any domain or of the host.
bool touches(const change& what, std::string_view property);

/// A feature set or removed by a change.
struct feature_turn {
  std::string_view owner;
  std::string_view name;
  std::string_view key;             ///< what follows the prefix
  std::optional<std::string> value; ///< nothing: removed
};
std::vector<feature_turn> feature_turns(const change& what, std::string_view prefix);

/// Domains that run are told of their features with this prefix, each as `folder` and its key.
void tell_features(const transition& x, std::string_view prefix, std::string_view folder,
                   notices& to);

} // namespace qubes::model
