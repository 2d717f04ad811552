// Domains on templates of Kicksecure, as qubes-core-admin-addon-kicksecure has them.
#include "model/guest/extensions/all.hpp"
#include "model/property/feature.hpp"

namespace qubes::model {

namespace {

constexpr auto mark = std::string_view{"kicksecure"};
constexpr auto clock_tag = std::string_view{"sdwdate-gui-client"};

/// Whether the domain's clock is shown to others; nothing where that is not for us to say.
std::optional<bool> shows_clock(const view& v, const domain& x) {
  auto has = [&](std::string_view feature) {
    return has_feature(v, x, feature, chain::with_template);
  };
  if (!x.is(local_vm) || has("whonix-gw") || has("whonix-ws"))
    return std::nullopt;
  return has(mark);
}

void when_told(const event& x, sequel& to) {
  if (x.name != "domain-add" && x.name != "property-set:template")
    return;
  auto v = to.now();
  auto* who = subject_of(v, x);
  auto shown = who ? shows_clock(v, *who) : std::nullopt;
  if (!shown)
    return;
  auto tags = draft{v};
  if (*shown)
    tags.add_tag(*who, clock_tag);
  else
    tags.remove_tag(*who, clock_tag);
  to.include(std::move(tags).finish());
}

/// A template may say what it is, never that it is not.
void when_asked(const domain& owner, const features_request& request, draft& to) {
  if (owner.is(template_class) && request.contains(std::string{mark}))
    to.set_feature(owner, mark, "1");
}

bool when_loaded(const view& v, domain& x) {
  auto shown = shows_clock(v, x);
  if (!shown || *shown == x.tags.contains(clock_tag))
    return false;
  if (*shown)
    x.tags.emplace(clock_tag);
  else
    x.tags.erase(std::string{clock_tag});
  return true;
}

} // namespace

const extension kicksecure{.name = "kicksecure",
                           .may_start = nullptr,
                           .may_stop = nullptr,
                           .at_start = nullptr,
                           .when_started = nullptr,
                           .when_changed = nullptr,
                           .of = package::kicksecure,
                           .when_told = when_told,
                           .when_asked = when_asked,
                           .when_loaded = when_loaded};

} // namespace qubes::model
