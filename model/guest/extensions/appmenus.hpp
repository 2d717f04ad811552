// Menus of applications in GUI domains, as qubes-desktop-linux-common has them made.
#pragma once

#include "model/base/menu_turn.hpp"
#include "model/base/service_call.hpp"
#include "model/guest/extension.hpp"

#include <string>
#include <vector>

namespace qubes::model {

/// What a change and its events mean for menus, in order; none without the package.
std::vector<menu_turn> menu_turns(const transition& x, const std::vector<event>& told);

/// Templates whose programs have just been installed: dom0 asks them for their applications.
std::vector<std::string> menus_to_sync(const view& v, const std::vector<event>& told);

/// What the GUI domain runs for a change of a menu.
service_call menu_call(const view& v, const domain& gui, const menu_turn& x);

/// What waits for the GUI domain to start: removals first.
std::vector<menu_turn> awaited_menus(const domain& gui);

/// The change waits from here on, or not any more. Empty when that is so already.
plan plan_await_menu(const view& v, const domain& gui, const menu_turn& x);
plan plan_menu_done(const view& v, const domain& gui, const menu_turn& x);

} // namespace qubes::model
