#include "model/guest/extension.hpp"

#include "model/guest/extensions/all.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace qubes::model {

namespace {

constexpr auto all = std::array{
    &backup_restore,   &audio,     &custom_persist, &services, &gui,        &relay,
    &r3_compatibility, &vm_config, &network,        &whonix,   &kicksecure,
};

bool is_on(const extension& x, const host& machine) {
  return !x.of || machine.packages.contains(*x.of);
}

} // namespace

std::span<const extension* const> extensions() noexcept {
  return all;
}

outcome<void> allow_start(const view& v, const domain& x) {
  for (auto* it : all)
    if (it->may_start)
      if (auto allowed = it->may_start(v, x); !allowed)
        return allowed;
  return {};
}

outcome<void> allow_stop(const view& v, const domain& x) {
  for (auto* it : all)
    if (it->may_stop)
      if (auto allowed = it->may_stop(v, x); !allowed)
        return allowed;
  return {};
}

notices told_by_start(const view& v, const domain& x) {
  auto result = notices{};
  for (auto* it : all)
    if (it->when_started)
      it->when_started(v, x, result);
  return result;
}

notices told_by_change(const transition& x) {
  auto result = notices{};
  for (auto* it : all)
    if (it->when_changed)
      it->when_changed(x, result);
  return result;
}

// -- plans ----------------------------------------------------------------------------------------

view sequel::now() {
  if (seen_ != plan_.what.edits.size()) {
    seen_ = plan_.what.edits.size();
    // What cannot be applied is refused when it is committed.
    if (auto next = apply(v_.system, v_.machine, plan_.what))
      states_.push_back(std::move(*next));
  }
  return {states_.empty() ? v_.system : states_.back(), v_.board, v_.machine};
}

void sequel::include(plan more) {
  if (plan_.refusal)
    return;
  if (more.refusal) {
    plan_ = {.before = std::move(plan_.before),
             .what = {},
             .after = {},
             .refusal = std::move(more.refusal)};
    return;
  }
  std::ranges::move(more.before, std::back_inserter(plan_.after));
  std::ranges::move(more.what.edits, std::back_inserter(plan_.what.edits));
  std::ranges::move(more.after, std::back_inserter(plan_.after));
}

plan with_consequences(const view& v, plan x) {
  if (x.refusal || v.machine.packages.empty())
    return x;
  auto to = sequel{v, std::move(x)};
  for (auto i = std::size_t{0}; i < to.so_far().after.size(); ++i) {
    auto told = to.so_far().after[i]; // which may move
    for (auto* it : all)
      if (it->when_told && is_on(*it, v.machine))
        it->when_told(told, to);
  }
  return std::move(to).finish();
}

void grant_extensions(draft& to, const domain& owner, const features_request& request) {
  for (auto* it : all)
    if (it->when_asked && is_on(*it, to.v.machine))
      it->when_asked(owner, request, to);
}

bool mend_extensions(const view& v, domain& x) {
  auto mended = false;
  for (auto* it : all)
    if (it->when_loaded && is_on(*it, v.machine))
      mended |= it->when_loaded(v, x);
  return mended;
}

// -- for extensions -------------------------------------------------------------------------------

const domain* subject_of(const view& v, const event& x) {
  auto added = x.name == "domain-add" && !x.args.empty();
  return v.system.find(added ? x.args.front().second : x.subject);
}

bool listens(const view& v, const domain& x) {
  return x.is(admin_vm) || (x.is(qubes_vm) && v.facts(x).xid >= 0);
}

std::string xid_text(const view& v, const domain& x) {
  return std::to_string(x.is(admin_vm) ? 0 : v.facts(x).xid);
}

std::vector<const domain*> running_users(const view& v, const domain& me,
                                         std::string_view property) {
  auto result = std::vector<const domain*>{};
  for (auto& x : v.system.domains)
    if (x.get() != &me && x->is(qubes_vm) && is_running(v, *x)
        && read_domain({v, x.get()}, property) == &me)
      result.push_back(x.get());
  return result;
}

bool touches(const change& what, std::string_view property) {
  return std::ranges::any_of(what.edits, [&](const edit& x) {
    if (auto* set = std::get_if<set_property>(&x))
      return set->name == property;
    auto* reset = std::get_if<reset_property>(&x);
    return reset && reset->name == property;
  });
}

std::vector<feature_turn> feature_turns(const change& what, std::string_view prefix) {
  auto result = std::vector<feature_turn>{};
  auto add = [&](std::string_view owner, std::string_view name, std::optional<std::string> value) {
    if (name.starts_with(prefix))
      result.push_back({owner, name, name.substr(prefix.size()), std::move(value)});
  };
  for (auto& x : what.edits) {
    if (auto* set = std::get_if<set_feature>(&x))
      add(set->owner, set->name, set->text);
    else if (auto* gone = std::get_if<remove_feature>(&x))
      add(gone->owner, gone->name, {});
  }
  return result;
}

void tell_features(const transition& x, std::string_view prefix, std::string_view folder,
                   notices& to) {
  for (auto& it : feature_turns(x.what, prefix))
    if (auto* owner = x.after.system.find(it.owner); owner && listens(x.after, *owner))
      to[owner->name].push_back({fmt::format("{}{}", folder, it.key), it.value});
}

} // namespace qubes::model
