// The menu of applications that a GUI domain shows: one piece of work after the other, kept in
// features while the domain is down.
#include "actors/domain/menus.hpp"
#include "model/guest/extensions/appmenus.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

namespace {

constexpr auto menu_patience = std::chrono::seconds{300};

} // namespace

bool domain_menus::are_shown() const {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  return me
         && (me->is(model::admin_vm)
             || (domain_.facts().state == model::power::running && !domain_.is_starting()));
}

void domain_menus::hear(const model::menu_turn& x) {
  if (!are_shown())
    return put_off(x);
  line_up(x);
  next();
}

/// The same change twice in a row is once.
void domain_menus::line_up(const model::menu_turn& x) {
  auto last = std::find_if(waiting_.rbegin(), waiting_.rend(),
                           [&](auto& it) { return it.domain == x.domain; });
  if (last == waiting_.rend() || last->remove != x.remove)
    waiting_.push_back(x);
}

/// The GUI domain may have come up before the change is noted.
void domain_menus::put_off(const model::menu_turn& x) {
  std::erase(taken_, x);
  domain_.change([x](auto& v, auto& me) { return plan_await_menu(v, me, x); },
                 domain_.heard_here([this](const model::outcome<std::string>& done) {
                   if (!done)
                     domain_.note(spdlog::level::warn, "its menu misses a change: {}",
                                  done.error().text);
                   else if (are_shown())
                     take_up();
                 }));
}

void domain_menus::take_up() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me || !now.machine->packages.contains(model::package::appmenus))
    return;
  for (auto& x : model::awaited_menus(*me))
    if (std::ranges::find(taken_, x) == taken_.end()) {
      taken_.push_back(x);
      line_up(x);
    }
  next();
}

void domain_menus::next() {
  if (at_work_ || waiting_.empty())
    return;
  if (!are_shown()) {
    for (auto& x : std::exchange(waiting_, {}))
      put_off(x);
    return;
  }
  auto x = std::move(waiting_.front());
  waiting_.pop_front();
  at_work_ = true;
  auto now = domain_.look();
  auto* shown = now.find(x.domain);
  auto about = model::subject{now.view(), shown};
  if (!x.remove && (!shown || model::read_text(about, "guivm") != domain_.who()))
    return done(x); // the domain is gone, or shown by another
  ask_driver(domain_.self, domain_.world(),
             domain_.work(job::run_service{model::menu_call(now.view(), *domain_.record(now), x),
                                           menu_patience}))
      .then([this, x] { done(x); },
            [this, x](const caf::error& why) {
              domain_.note(spdlog::level::warn, "its menu does not follow '{}': {}", x.domain,
                           from_caf(why).text);
              if (are_shown())
                return done(x);
              at_work_ = false;
              put_off(x);
              next();
            });
}

void domain_menus::done(const model::menu_turn& x) {
  at_work_ = false;
  if (std::ranges::find(taken_, x) != taken_.end())
    domain_.change([x](auto& v, auto& me) { return plan_menu_done(v, me, x); },
                   domain_.heard_here(
                       [this, x](const model::outcome<std::string>&) { std::erase(taken_, x); }));
  next();
}

} // namespace qubes::actors
