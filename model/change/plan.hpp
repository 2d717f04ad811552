// What a client's request means: the change to make durable and the events that tell of it.
#pragma once

#include "model/base/event.hpp"
#include "model/change/change.hpp"
#include "model/property/property.hpp"

#include <optional>
#include <string_view>
#include <vector>

namespace qubes::model {

/// `before` is told first and stands even when the request is refused by a pre-set rule, as the
/// stock daemon does (spec/properties.md §1.1); `after` is told once the change is durable. Orders
/// of events: spec/event-traces.txt.
struct plan {
  std::vector<event> before;
  change what;
  std::vector<event> after;
  std::optional<error> refusal;
};

/// `owner` is null for global properties. Consequences on other domains (tags that follow guivm,
/// inherited values announced on children, ...) are part of the plan.
plan plan_set_property(const view& v, const domain* owner, std::string_view name,
                       std::string_view text);
plan plan_reset_property(const view& v, const domain* owner, std::string_view name);

plan plan_set_feature(const view& v, const domain& owner, std::string_view name,
                      std::string_view text);
plan plan_remove_feature(const view& v, const domain& owner, std::string_view name);

/// Kept while a paused domain has another netvm than its interface: the former one.
inline constexpr std::string_view deferred_netvm = "deferred-netvm-original";
/// The netvm went away while the domain was paused: the mark that it has something to make up for.
plan plan_remember_netvm(const view& v, const domain& owner);
plan plan_forget_deferred(const view& v, const domain& owner);

plan plan_add_tag(const view& v, const domain& owner, std::string_view tag);
plan plan_remove_tag(const view& v, const domain& owner, std::string_view tag);

/// `color` is the payload as the client sent it.
plan plan_create_label(const view& v, std::string_view name, std::string_view color);
plan plan_remove_label(const view& v, std::string_view name);

} // namespace qubes::model
