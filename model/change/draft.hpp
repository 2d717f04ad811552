// A plan in the making: events and the edits they tell of, added together.
#pragma once

#include "model/change/plan.hpp"

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace qubes::model {

using maybe_value = std::optional<value>;

/// `KIND:name`, with newvalue and oldvalue where known. `owner` is null for the host.
event property_event(std::string_view kind, const domain* owner, std::string_view name,
                     const maybe_value& next, const maybe_value& old);

event feature_event(std::string_view kind, const domain& owner, std::string_view name,
                    const std::optional<std::string>& text = {},
                    const std::optional<std::string>& old = {});

/// Text of a feature the domain itself has.
std::optional<std::string> own_feature(const domain& x, std::string_view name);

class draft {
public:
  explicit draft(const view& v) : v(v) {}

  const view v;

  void announce(event x) { plan_.before.push_back(std::move(x)); }
  void tell(event x) { plan_.after.push_back(std::move(x)); }
  void edit(model::edit x);

  /// `property-reset:name` alone: the computed value is another one now.
  void tell_reset(const domain& owner, std::string_view name, const maybe_value& old = {});

  void set_feature(const domain& owner, std::string_view name, std::string_view text);
  /// As `set_feature`, told before what is told of the change itself.
  void set_feature_first(const domain& owner, std::string_view name, std::string_view text);
  /// Does nothing when the domain has no such feature.
  void remove_feature(const domain& owner, std::string_view name);

  /// Nothing happens where the tag is there, or is not, already.
  void add_tag(const domain& owner, std::string_view tag);
  void remove_tag(const domain& owner, std::string_view tag);

  /// A consequence with events of its own; false when it is refused, and then so is the whole.
  bool include(plan consequence);

  /// The plan as it is.
  plan finish() &&;

  /// Only what was announced so far, and the refusal.
  plan refuse(error why) &&;

  /// A refusal that only the client hears of.
  static plan refuse_quietly(error why);

  /// The refusal of an included consequence.
  const std::optional<error>& refusal() const noexcept { return plan_.refusal; }

private:
  bool has_tag(const domain& owner, std::string_view tag) const;

  using owner_and_tag = std::pair<std::string, std::string>;

  plan plan_;
  std::map<owner_and_tag, bool> tags_; ///< that the plan adds (true) or removes
};

} // namespace qubes::model
