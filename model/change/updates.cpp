#include "model/change/updates.hpp"

#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/change/draft.hpp"
#include "model/property/graph.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

const domain* updateable_template_of(const view& v, const domain& x) {
  auto steps = v.system.domains.size();
  for (auto* it = template_of(v, x); it && steps > 0; it = template_of(v, *it), --steps)
    if (read_bool({v, it}, "updateable"))
      return it;
  return nullptr;
}

void note_updates(draft& to, const domain& on, bool available, const std::string& when) {
  auto had = own_feature(on, "updates-available");
  if (!available && had && !had->empty())
    to.set_feature(on, "last-update", when);
  to.set_feature(on, "updates-available", available ? "1" : "");
  to.set_feature(on, "last-updates-check", when);
}

} // namespace

outcome<bool> parse_update_count(std::string_view text) {
  text = trimmed(text);
  if (text.empty() || !std::ranges::all_of(text, is_digit))
    return fail(errc::protocol, fmt::format("{} is no number of updates", quoted(text)),
                "digits are allowed");
  return text.find_first_not_of('0') != text.npos;
}

plan plan_notify_updates(const view& v, const domain& owner, bool available,
                         const std::string& when) {
  if (!owner.is(local_vm))
    return draft::refuse_quietly({errc::vm_error,
                                  fmt::format("'{}' runs on another host, where its updates are "
                                              "looked after",
                                              owner.name.str()),
                                  {}});
  auto to = draft{v};
  if (read_bool({v, &owner}, "updateable"))
    note_updates(to, owner, available, when);
  else if (auto* base = updateable_template_of(v, owner);
           base && available && !is_running(v, *base))
    note_updates(to, *base, available, when);
  return std::move(to).finish();
}

} // namespace qubes::model
