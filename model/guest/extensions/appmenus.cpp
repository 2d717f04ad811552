// Which changes a menu shows, and how a GUI domain is told.
#include "model/guest/extensions/appmenus.hpp"
#include "model/base/split.hpp"
#include "model/property/feature.hpp"
#include "model/property/property.hpp"
#include "model/property/service_user.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

namespace qubes::model {

namespace {

constexpr std::string_view queue_of(bool remove) {
  return remove ? "menu-remove-pending-for" : "menu-update-pending-for";
}

// -- what a menu shows ----------------------------------------------------------------------------

using condition = bool (*)(const view&, const domain&);

bool always(const view&, const domain&) {
  return true;
}

bool shows_disposables(const view& v, const domain& x) {
  return has_feature(v, x, "appmenus-dispvm", chain::own);
}

bool makes_disposables(const view& v, const domain& x) {
  return read_bool({v, &x}, "template_for_dispvms");
}

bool is_internal(const view& v, const domain& x) {
  return has_feature(v, x, "internal", chain::own);
}

struct menu_row {
  std::string_view event;
  condition when;
  bool remove;
};

// clang-format off
constexpr menu_row rows[]{
  {"domain-create-on-disk",                 always,            false},
  {"property-set:label",                    always,            false},
  {"property-reset:label",                  always,            false},
  {"property-set:provides_network",         always,            false},
  {"property-reset:provides_network",       always,            false},
  {"property-set:template_for_dispvms",     shows_disposables, false},
  {"property-reset:template_for_dispvms",   shows_disposables, false},
  {"property-set:guivm",                    always,            false},
  {"domain-feature-set:appmenus-dispvm",    makes_disposables, false},
  {"domain-feature-delete:appmenus-dispvm", makes_disposables, false},
  {"domain-feature-set:menu-items",         always,            false},
  {"domain-feature-set:internal",           is_internal,       true},
  {"domain-feature-delete:internal",        always,            false},
};
// clang-format on

class turns {
public:
  void add(const view& v, const domain& x, bool remove) {
    auto* gui = x.is(qubes_vm) ? read_domain({v, &x}, "guivm") : nullptr;
    if (!gui)
      return;
    auto turn = menu_turn{gui->name, x.name, remove};
    if (std::ranges::find(all, turn) == all.end())
      all.push_back(std::move(turn));
  }

  std::vector<menu_turn> all;
};

void add_gone(turns& to, const transition& x) {
  for (auto& it : x.what.edits)
    if (auto* gone = std::get_if<remove_domain>(&it))
      if (auto* former = x.before.system.find(gone->name))
        to.add(x.before, *former, true);
}

/// Menus go from one GUI domain to another, whatever led to it.
void add_moved(turns& to, const transition& x) {
  if (!touches(x.what, "guivm") && !touches(x.what, "default_guivm"))
    return;
  for (auto& it : x.after.system.domains) {
    auto* former = x.before.system.find(it->name.str());
    if (!former
        || read_text({x.before, former}, "guivm") == read_text({x.after, it.get()}, "guivm"))
      continue;
    to.add(x.before, *former, true);
    to.add(x.after, *it, false);
  }
}

std::vector<std::string> names_in(const std::string& text) {
  auto names = words_of(text, any_blank);
  return {names.begin(), names.end()};
}

std::vector<std::string> queued(const domain& gui, bool remove) {
  return names_in(own_feature(gui, queue_of(remove)).value_or(""));
}

} // namespace

std::vector<menu_turn> menu_turns(const transition& x, const std::vector<event>& told) {
  if (!x.after.machine.packages.contains(package::appmenus))
    return {};
  auto to = turns{};
  add_gone(to, x);
  add_moved(to, x);
  for (auto& it : told)
    if (auto* row = std::ranges::find(rows, it.name, &menu_row::event); row != std::end(rows))
      if (auto* who = x.after.system.find(it.subject); who && row->when(x.after, *who))
        to.add(x.after, *who, row->remove);
  return std::move(to.all);
}

std::vector<std::string> menus_to_sync(const view& v, const std::vector<event>& told) {
  auto result = std::vector<std::string>{};
  if (v.machine.packages.contains(package::appmenus))
    for (auto& it : told)
      if (it.name == "template-postinstall")
        result.push_back(it.subject);
  return result;
}

/// GUI domains of before these services have the program that they run.
service_call menu_call(const view& v, const domain& gui, const menu_turn& x) {
  auto service = x.remove ? "qubes.RemoveAppMenusFor" : "qubes.UpdateAppMenusFor";
  auto user = gui.is(admin_vm) ? std::string{default_user} : service_user(v, gui);
  if (gui.is(admin_vm)
      || has_feature(v, gui, fmt::format("supported-rpc.{}", service), chain::with_template))
    return {.service = fmt::format("{}+{}", service, x.domain), .user = std::move(user)};
  return {.service = "qubes.VMShell",
          .user = std::move(user),
          .input =
              fmt::format("qvm-appmenus {} -- {}\n",
                          x.remove ? "--remove --quiet" : "--update --quiet --force", x.domain)};
}

std::vector<menu_turn> awaited_menus(const domain& gui) {
  auto result = std::vector<menu_turn>{};
  for (auto remove : {true, false})
    for (auto& name : queued(gui, remove))
      result.push_back({gui.name, std::move(name), remove});
  return result;
}

plan plan_await_menu(const view& v, const domain& gui, const menu_turn& x) {
  auto to = draft{v};
  auto names = queued(gui, x.remove);
  if (std::ranges::find(names, x.domain) == names.end()) {
    names.push_back(x.domain);
    to.set_feature(gui, queue_of(x.remove), fmt::format("{}", fmt::join(names, " ")));
  }
  return std::move(to).finish();
}

plan plan_menu_done(const view& v, const domain& gui, const menu_turn& x) {
  auto to = draft{v};
  auto names = queued(gui, x.remove);
  if (std::erase(names, x.domain) == 0)
    return std::move(to).finish();
  if (names.empty())
    to.remove_feature(gui, queue_of(x.remove));
  else
    to.set_feature(gui, queue_of(x.remove), fmt::format("{}", fmt::join(names, " ")));
  return std::move(to).finish();
}

} // namespace qubes::model
