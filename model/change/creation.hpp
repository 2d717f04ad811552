// How a domain comes to be and how it goes (spec/admin-api.md C5, spec/vm-classes.md §2-§6).
#pragma once

#include "model/change/plan.hpp"
#include "model/storage/volume.hpp"

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace qubes::model {

/// What a client wants: parsed, not yet held against the system.
struct creation {
  klass type = klass::app;
  std::string based_on; ///< template, "" for the default one
  domain_name name;     ///< empty: a disposable gets its name from its number
  std::string label;    ///< "" for the template's
  placement where;
  std::string creator;     ///< domain that asks
  bool disposable = false; ///< removes itself when it has shut down
  bool preloaded = false;  ///< made before a client asks for one
};

/// admin.vm.Create.CLASS and, `with_pools`, admin.vm.CreateInPool.CLASS. The payload is made of
/// KEY=VALUE, one space between them.
outcome<creation> parse_creation(const system& all, klass type, std::string_view based_on,
                                 std::string_view payload, bool with_pools);

/// admin.vm.CreateDisposable.
outcome<creation> plan_disposable(const view& v, const domain& source, const domain& destination);

/// What sets a new domain apart from all others. Chosen by the registry.
struct identity {
  std::int64_t qid = 0;
  std::string uuid;
  std::int64_t dispid = 0; ///< disposables only
};

/// Lowest number that neither a domain nor a creation under way has; nothing when all are taken.
std::optional<std::int64_t> free_qid(const system& all, std::span<const std::int64_t> under_way);

/// The record and the events that tell of it; `after` is told once disk and record are made.
plan plan_creation(const view& v, const creation& request, const identity& as);

/// The record of a plan made by `plan_creation`.
domain_ptr created(const plan& x);

/// What the private volume of a new domain begins with: Windows keeps what belongs to its programs
/// in that of the template (spec/features.md §5). Null for an empty one.
const volume* private_data_for(const view& v, const domain& made);

/// Refused while the domain runs, is used, or belongs to the package manager.
plan plan_removal(const view& v, const domain& x);

/// Told of a domain that is gone without a plan.
std::vector<event> news_of_removal(const std::string& who);

} // namespace qubes::model
