#include "model/extension.hpp"

#include "model/extensions/all.hpp"
#include "model/property.hpp"

#include <algorithm>
#include <array>

namespace qubes::model {

namespace {

constexpr auto all = std::array{
    &backup_restore,   &audio,     &custom_persist, &services, &gui, &relay,
    &r3_compatibility, &vm_config, &network,
};

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

} // namespace qubes::model
