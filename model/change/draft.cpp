#include "model/change/draft.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

std::string subject_of(const domain* owner) {
  return owner ? owner->name.str() : std::string{};
}

event tag_event(std::string_view kind, const domain& owner, std::string_view tag) {
  return {owner.name, fmt::format("{}:{}", kind, tag), {{"tag", std::string{tag}}}};
}

} // namespace

event property_event(std::string_view kind, const domain* owner, std::string_view name,
                     const maybe_value& next, const maybe_value& old) {
  auto result = event{subject_of(owner), fmt::format("{}:{}", kind, name), {}};
  result.args.emplace_back("name", name);
  if (next)
    result.args.emplace_back("newvalue", to_event_text(*next));
  if (old)
    result.args.emplace_back("oldvalue", to_event_text(*old));
  return result;
}

event feature_event(std::string_view kind, const domain& owner, std::string_view name,
                    const std::optional<std::string>& text, const std::optional<std::string>& old) {
  auto result = event{owner.name, fmt::format("{}:{}", kind, name), {}};
  result.args.emplace_back("feature", name);
  if (text)
    result.args.emplace_back("value", *text);
  if (old)
    result.args.emplace_back("oldvalue", *old);
  return result;
}

std::optional<std::string> own_feature(const domain& x, std::string_view name) {
  auto text = x.features.find(name);
  return text ? std::optional{*text} : std::nullopt;
}

void draft::tell_reset(const domain& owner, std::string_view name, const maybe_value& old) {
  tell(property_event("property-reset", &owner, name, {}, old));
}

void draft::set_feature(const domain& owner, std::string_view name, std::string_view text) {
  auto next = std::string{text};
  auto old = own_feature(owner, name);
  tell(feature_event("domain-feature-pre-set", owner, name, next, old));
  if (old != next)
    edit(model::set_feature{owner.name, std::string{name}, next});
  tell(feature_event("domain-feature-set", owner, name, next, old));
}

void draft::set_feature_first(const domain& owner, std::string_view name, std::string_view text) {
  auto first = static_cast<std::ptrdiff_t>(plan_.after.size());
  set_feature(owner, name, text);
  std::move(plan_.after.begin() + first, plan_.after.end(), std::back_inserter(plan_.before));
  plan_.after.erase(plan_.after.begin() + first, plan_.after.end());
}

void draft::remove_feature(const domain& owner, std::string_view name) {
  if (!owner.features.find(name))
    return;
  tell(feature_event("domain-feature-pre-delete", owner, name));
  edit(model::remove_feature{owner.name, std::string{name}});
  tell(feature_event("domain-feature-delete", owner, name));
}

void draft::add_tag(const domain& owner, std::string_view tag) {
  if (has_tag(owner, tag))
    return;
  edit(model::add_tag{owner.name, std::string{tag}});
  tell(tag_event("domain-tag-add", owner, tag));
}

void draft::remove_tag(const domain& owner, std::string_view tag) {
  if (!has_tag(owner, tag))
    return;
  edit(model::remove_tag{owner.name, std::string{tag}});
  tell(tag_event("domain-tag-delete", owner, tag));
}

void draft::edit(model::edit x) {
  if (auto added = std::get_if<model::add_tag>(&x))
    tags_[{added->owner, added->tag}] = true;
  else if (auto removed = std::get_if<model::remove_tag>(&x))
    tags_[{removed->owner, removed->tag}] = false;
  plan_.what.edits.push_back(std::move(x));
}

bool draft::include(plan consequence) {
  for (auto part : {&consequence.before, &consequence.after})
    for (auto& x : *part)
      tell(std::move(x));
  for (auto& x : consequence.what.edits)
    edit(std::move(x));
  plan_.refusal = std::move(consequence.refusal);
  return !plan_.refusal;
}

plan draft::finish() && {
  return std::move(plan_);
}

plan draft::refuse(error why) && {
  return {.before = std::move(plan_.before), .what = {}, .after = {}, .refusal = std::move(why)};
}

plan draft::refuse_quietly(error why) {
  return {.before = {}, .what = {}, .after = {}, .refusal = std::move(why)};
}

bool draft::has_tag(const domain& owner, std::string_view tag) const {
  auto planned = tags_.find({owner.name, std::string{tag}});
  return planned == tags_.end() ? owner.tags.contains(tag) : planned->second;
}

} // namespace qubes::model
