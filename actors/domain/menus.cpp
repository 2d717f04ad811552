// The menu of applications that a GUI domain shows: one piece of work after the other, kept in
// features while the domain is down.
#include "actors/domain/domain.hpp"
#include "model/guest/extensions/appmenus.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

namespace {

constexpr auto menu_patience = std::chrono::seconds{300};

} // namespace

bool domain_state::shows_menus() const {
  auto now = look();
  auto* me = record(now);
  return me && (me->is(model::admin_vm) || (facts_.state == model::power::running && !start_));
}

void domain_state::hear(const model::menu_turn& x) {
  if (!shows_menus())
    return put_off(x);
  line_up(x);
  next_menu();
}

/// The same twice in a row is once.
void domain_state::line_up(const model::menu_turn& x) {
  auto last =
      std::find_if(menus_.rbegin(), menus_.rend(), [&](auto& it) { return it.domain == x.domain; });
  if (last == menus_.rend() || last->remove != x.remove)
    menus_.push_back(x);
}

/// It may have come up before that is noted.
void domain_state::put_off(const model::menu_turn& x) {
  std::erase(menus_taken_, x);
  change([x](auto& v, auto& me) { return plan_await_menu(v, me, x); },
         heard_here_([this](const model::outcome<std::string>& done) {
           if (!done)
             note(spdlog::level::warn, "its menu misses a change: {}", done.error().text);
           else if (shows_menus())
             take_up_menus();
         }));
}

void domain_state::take_up_menus() {
  auto now = look();
  auto* me = record(now);
  if (!me || !now.machine->packages.contains(model::package::appmenus))
    return;
  for (auto& x : model::awaited_menus(*me))
    if (std::ranges::find(menus_taken_, x) == menus_taken_.end()) {
      menus_taken_.push_back(x);
      line_up(x);
    }
  next_menu();
}

void domain_state::next_menu() {
  if (menu_at_work_ || menus_.empty())
    return;
  if (!shows_menus()) {
    for (auto& x : std::exchange(menus_, {}))
      put_off(x);
    return;
  }
  auto x = std::move(menus_.front());
  menus_.pop_front();
  menu_at_work_ = true;
  auto now = look();
  auto* shown = now.find(x.domain);
  auto about = model::subject{now.view(), shown};
  if (!x.remove && (!shown || model::read_text(about, "guivm") != who_))
    return menu_done(x); // it is gone, or another shows it now
  ask_driver(self, world_,
             work(job::run_service{model::menu_call(now.view(), *record(now), x), menu_patience}))
      .then([this, x] { menu_done(x); },
            [this, x](const caf::error& why) {
              note(spdlog::level::warn, "its menu does not follow '{}': {}", x.domain,
                   from_caf(why).text);
              if (shows_menus())
                return menu_done(x);
              menu_at_work_ = false;
              put_off(x);
              next_menu();
            });
}

void domain_state::menu_done(const model::menu_turn& x) {
  menu_at_work_ = false;
  if (std::ranges::find(menus_taken_, x) != menus_taken_.end())
    change([x](auto& v, auto& me) { return plan_menu_done(v, me, x); },
           heard_here_(
               [this, x](const model::outcome<std::string>&) { std::erase(menus_taken_, x); }));
  next_menu();
}

} // namespace qubes::actors
