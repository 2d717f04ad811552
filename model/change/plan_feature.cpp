// Setting and removing features (spec/features.md §1).

#include "model/base/literal.hpp"
#include "model/change/reactions.hpp"
#include "model/property/feature_rules.hpp"
#include "model/property/graph.hpp"

#include <fmt/format.h>

#include <array>

namespace qubes::model {

namespace {

struct turn_of_feature {
  const domain& owner;
  std::string_view name;
  std::string_view text;
  bool changed;
};

void announce_bootmode(draft& to, const turn_of_feature& x) {
  if (x.changed && at_default({to.v, &x.owner}, "bootmode"))
    to.tell_reset(x.owner, "bootmode");
}

/// The children hear of it twice: of the property that follows the feature, then of the feature.
void announce_default_bootmode(draft& to, const turn_of_feature& x) {
  constexpr auto property = "appvm_default_bootmode";
  if (!x.changed || !at_default({to.v, &x.owner}, property))
    return;
  announce_bootmodes(to, x.owner);
  to.tell_reset(x.owner, property);
  announce_bootmodes(to, x.owner);
}

struct feature_reaction {
  std::string_view feature;
  int holders;
  void (*react)(draft&, const turn_of_feature&);
};

constexpr std::array feature_reactions{
    feature_reaction{"boot-mode.active", qubes_vm, announce_bootmode},
    feature_reaction{"boot-mode.appvm-default", template_class, announce_default_bootmode},
};

/// The host's limit on preloaded disposables is asked of the template that makes them, too.
outcome<void> check_everywhere(draft& to, const domain& owner, std::string_view name,
                               const std::string& text) {
  if (auto sound = check_feature(to.v, owner, name, text); !sound)
    return sound;
  auto maker = owner.is(admin_vm) && name == "preload-dispvm-max"
                   ? read_domain({to.v, nullptr}, "default_dispvm")
                   : nullptr;
  if (!maker)
    return {};
  to.announce(
      feature_event("domain-feature-pre-set", *maker, name, text, own_feature(owner, name)));
  return check_feature(to.v, *maker, name, text);
}

/// The service of old is maxmem today: off means 0, on means the default. Nothing is stored.
bool translate_meminfo_writer(draft& to, const domain& owner, std::string_view text) {
  auto as_property = text.empty() ? plan_set_property(to.v, &owner, "maxmem", "0")
                                  : plan_reset_property(to.v, &owner, "maxmem");
  if (!to.include(std::move(as_property)))
    return false;
  constexpr auto name = std::string_view{"service.meminfo-writer"};
  to.tell(feature_event("domain-feature-pre-delete", owner, name));
  if (owner.features.find(name))
    to.edit(remove_feature{owner.name, std::string{name}});
  to.tell(feature_event("domain-feature-delete", owner, name));
  return true;
}

} // namespace

plan plan_set_feature(const view& v, const domain& owner, std::string_view name,
                      std::string_view text) {
  auto sound = check_feature_name(name).and_then([&] { return check_feature_value(name, text); });
  if (!sound)
    return draft::refuse_quietly(std::move(sound.error()));

  auto to = draft{v};
  auto next = std::string{text};
  auto old = own_feature(owner, name);
  to.announce(feature_event("domain-feature-pre-set", owner, name, next, old));
  if (auto allowed = check_everywhere(to, owner, name, next); !allowed)
    return std::move(to).refuse(std::move(allowed.error()));

  if (name == "service.meminfo-writer" && owner.is(qubes_vm)) {
    if (!translate_meminfo_writer(to, owner, text)) {
      auto why = *to.refusal();
      return std::move(to).refuse(std::move(why));
    }
  } else if (old != next) {
    to.edit(set_feature{owner.name, std::string{name}, next});
  }
  auto x = turn_of_feature{owner, name, text, old != next};
  for (auto& it : feature_reactions)
    if (it.feature == name && (it.holders & row(owner.type).bit))
      it.react(to, x);
  to.tell(feature_event("domain-feature-set", owner, name, next, old));
  return std::move(to).finish();
}

plan plan_remember_netvm(const view& v, const domain& owner) {
  auto to = draft{v};
  auto* netvm = netvm_of(v, owner);
  if (netvm && !owner.features.find(deferred_netvm))
    to.set_feature(owner, deferred_netvm, netvm->name.str());
  return std::move(to).finish();
}

plan plan_forget_deferred(const view& v, const domain& owner) {
  auto to = draft{v};
  to.remove_feature(owner, deferred_netvm);
  return std::move(to).finish();
}

plan plan_remove_feature(const view& v, const domain& owner, std::string_view name) {
  if (auto sound = check_feature_name(name); !sound)
    return draft::refuse_quietly(std::move(sound.error()));
  auto to = draft{v};
  to.announce(feature_event("domain-feature-pre-delete", owner, name));
  if (!owner.features.find(name))
    return std::move(to).refuse(
        {errc::feature_not_found,
         fmt::format("domain '{}' has no feature {}", owner.name.str(), quoted(name)), ""});
  to.edit(remove_feature{owner.name, std::string{name}});
  to.tell(feature_event("domain-feature-delete", owner, name));
  return std::move(to).finish();
}

} // namespace qubes::model
