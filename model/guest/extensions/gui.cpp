// The domain that shows a domain's windows, and how.
#include "model/guest/extensions/all.hpp"
#include "model/property/feature.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace qubes::model {

namespace {

constexpr auto xid_path = "/qubes-gui-domain-xid";
constexpr auto enabled_path = "/qubes-gui-enabled";
constexpr auto layout = "keyboard_layout";
constexpr auto layout_path = "/keyboard-layout";

std::string enabled(const view& v, const domain& x, bool shown) {
  return shown && has_feature(v, x, "gui", chain::own, true) ? "True" : "False";
}

outcome<void> may_stop(const view& v, const domain& x) {
  auto names = std::vector<std::string>{};
  for (auto* user : running_users(v, x, "guivm"))
    names.push_back(user->name);
  if (!names.empty())
    return fail(errc::vm_error,
                fmt::format("'{}' shows the windows of {}", x.name.str(), fmt::join(names, ", ")));
  return {};
}

outcome<void> at_start(const guest_start& x, qubesdb_edits& to) {
  auto& [v, who, now] = x;
  for (auto feature : {"gui-videoram-overhead", "gui-videoram-min"})
    if (auto* text = find_feature(v, who, feature, chain::with_template_and_adminvm))
      put(to, fmt::format("/qubes-{}", feature), *text);
  auto* screen = read_domain({v, &who}, "guivm");
  put(to, enabled_path, enabled(v, who, screen != nullptr));
  if (screen && screen != &who) {
    put(to, layout_path, read_text({v, &who}, "keyboard_layout"));
    if (listens(v, *screen))
      put(to, xid_path, xid_text(v, *screen));
  }
  if (has_feature(v, who, "service.guivm", chain::own)) {
    auto* text = find_feature(v, who, "guivm-windows-prefix", chain::own);
    put(to, "/guivm-windows-prefix", text ? *text : "GuiVM");
  }
  return {};
}

void when_started(const view& v, const domain& x, notices& to) {
  for (auto* user : running_users(v, x, "guivm")) {
    auto& edits = to[user->name];
    put(edits, enabled_path, enabled(v, *user, true));
    put(edits, xid_path, xid_text(v, x));
  }
}

/// Of a domain that has a layout of its own or has it no more; others may take it over from there.
bool is_its_own(const change& what, const domain& x) {
  return std::ranges::any_of(what.edits, [&](auto& edit) {
    auto* set = std::get_if<set_property>(&edit);
    auto* reset = std::get_if<reset_property>(&edit);
    return (set && set->owner == x.name && set->name == layout)
           || (reset && reset->owner == x.name && reset->name == layout);
  });
}

void when_changed(const transition& x, notices& to) {
  if (!touches(x.what, layout))
    return;
  for (auto& it : x.after.system.domains) {
    auto* former = x.before.system.find(it->name.str());
    if (!listens(x.after, *it) || !former)
      continue;
    auto text = read_text({x.after, it.get()}, layout);
    auto* screen = read_domain({x.after, it.get()}, "guivm");
    auto follows = screen && screen != it.get();
    if ((follows || is_its_own(x.what, *it)) && text != read_text({x.before, former}, layout))
      put(to[it->name], layout_path, text);
  }
}

} // namespace

const extension gui{"gui", nullptr, may_stop, at_start, when_started, when_changed};

} // namespace qubes::model
