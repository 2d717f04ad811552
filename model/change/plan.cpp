// Tags and labels (spec/features.md §6, spec/app.md §2). Properties and features have files of
// their own: plan_property.cpp, plan_feature.cpp.

#include "model/base/literal.hpp"
#include "model/base/split.hpp"
#include "model/change/draft.hpp"
#include "model/change/follower.hpp"
#include "model/change/integrity.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

constexpr auto created_by = std::string_view{"created-by-"};

/// What a creator gives to what it creates: tags and a GUI domain, as its features say.
outcome<void> inherit(draft& to, const domain& owner, std::string_view creator_name) {
  auto creator = to.v.system.find(creator_name);
  if (!creator)
    return fail(errc::value, fmt::format("there is no domain '{}' that could have created '{}'",
                                         creator_name, owner.name.str()));
  auto tags = own_feature(*creator, "tag-created-vm-with").value_or("");
  for (auto tag : words_of(tags)) {
    if (auto sound = check_tag(tag); !sound)
      return sound;
    to.add_tag(owner, tag);
  }
  auto guivm = own_feature(*creator, "set-created-guivm");
  if (guivm && owner.is(qubes_vm) && !to.include(plan_set_property(to.v, &owner, "guivm", *guivm)))
    return tl::unexpected{*to.refusal()};
  return {};
}

error missing_tag(const domain& owner, std::string_view tag) {
  return {errc::tag_not_found,
          fmt::format("domain '{}' has no tag {}", owner.name.str(), quoted(tag)), ""};
}

// -- labels -----------------------------------------------------------------------------------

bool is_color(std::string_view text) {
  return text.size() == 8 && text.starts_with("0x")
         && text.find_first_not_of("0123456789abcdefABCDEF", 2) == text.npos;
}

int next_index(const system& x) {
  auto last = std::max(last_default_label, x.labels.empty() ? 0 : x.labels.back().index);
  for (auto& it : x.quarantine)
    if (it.where == section::labels)
      last = std::max(last, static_cast<int>(std::min(it.holds.number, std::int64_t{1} << 30)));
  return last + 1;
}

/// By name, else by index in decimal.
const label* find_label(const system& x, std::string_view text) {
  if (auto found = x.find_label(text))
    return found;
  for (auto& it : x.labels)
    if (std::to_string(it.index) == text)
      return &it;
  return nullptr;
}

std::vector<std::string_view> names_of(const std::vector<label>& all) {
  auto names = std::vector<std::string_view>{};
  for (auto& x : all)
    names.push_back(x.name);
  return names;
}

error unknown_label(const system& x, std::string_view name) {
  auto near = nearest(name, names_of(x.labels));
  return {errc::label_not_found, fmt::format("there is no label {}", quoted(name)),
          near.empty() ? "" : fmt::format("did you mean '{}'?", near)};
}

} // namespace

plan plan_add_tag(const view& v, const domain& owner, std::string_view tag) {
  if (auto sound = check_tag(tag); !sound)
    return draft::refuse_quietly(std::move(sound.error()));
  auto to = draft{v};
  if (owner.tags.contains(tag))
    return std::move(to).finish();
  if (tag.starts_with(created_by) && owner.is(local_vm))
    if (auto given = inherit(to, owner, tag.substr(created_by.size())); !given)
      return draft::refuse_quietly(std::move(given.error()));
  to.add_tag(owner, tag);
  return std::move(to).finish();
}

plan plan_remove_tag(const view& v, const domain& owner, std::string_view tag) {
  if (auto sound = check_tag(tag); !sound)
    return draft::refuse_quietly(std::move(sound.error()));
  if (!owner.tags.contains(tag))
    return draft::refuse_quietly(missing_tag(owner, tag));
  if (auto property = followed_by(v, owner, tag); !property.empty())
    return draft::refuse_quietly(
        {errc::value,
         fmt::format("'{}' has the tag '{}' because of its {}", owner.name.str(), tag, property),
         fmt::format("change its {}", property)});
  auto to = draft{v};
  to.remove_tag(owner, tag);
  return std::move(to).finish();
}

plan plan_create_label(const view& v, std::string_view name, std::string_view color) {
  if (auto sound = check_label_name(name, true); !sound)
    return draft::refuse_quietly(std::move(sound.error()));
  auto value = trimmed(color);
  if (!is_color(value))
    return draft::refuse_quietly({errc::invalid_label_value,
                                  fmt::format("{} is no color", quoted(value)),
                                  "write 0x and six hexadecimal digits, as in 0x3465a4"});
  if (v.system.find_label(name))
    return draft::refuse_quietly({errc::label_in_use,
                                  fmt::format("there is already a label '{}'", name),
                                  "choose another name"});
  if (v.system.find_set_aside(section::labels, name))
    return draft::refuse_quietly({errc::label_in_use,
                                  fmt::format("a label '{}' is set aside from qubes.xml", name),
                                  "choose another name, or mend its record"});
  auto to = draft{v};
  to.edit(add_label{{next_index(v.system), std::string{value}, std::string{name}}});
  return std::move(to).finish();
}

plan plan_remove_label(const view& v, std::string_view name) {
  if (auto sound = check_label_name(name, false); !sound)
    return draft::refuse_quietly(std::move(sound.error()));
  auto found = find_label(v.system, name);
  if (!found)
    return draft::refuse_quietly(unknown_label(v.system, name));
  if (found->index <= last_default_label)
    return draft::refuse_quietly({errc::protocol,
                                  fmt::format("label '{}' belongs to every system", found->name),
                                  "only labels that were created later can be removed"});
  auto users = users_of_label(v.system, found->name);
  if (!users.empty())
    return draft::refuse_quietly(
        {errc::label_in_use,
         fmt::format("label '{}' marks '{}'{}", found->name, users.front().owner,
                     users.size() > 1 ? fmt::format(" and {} more", users.size() - 1) : ""),
         "give them another label first"});
  auto to = draft{v};
  to.edit(remove_label{found->name});
  return std::move(to).finish();
}

} // namespace qubes::model
