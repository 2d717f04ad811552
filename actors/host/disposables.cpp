#include "actors/host/disposables.hpp"

#include "actors/common/ask_driver.hpp"
#include "actors/common/commit.hpp"
#include "actors/common/guest_notification.hpp"
#include "actors/common/hand_on.hpp"
#include "actors/common/in_order.hpp"
#include "actors/common/log.hpp"
#include "model/change/creation.hpp"
#include "model/change/preload.hpp"
#include "model/property/default_rules.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"
#include "model/property/service_user.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace qubes::actors {

using model::errc;
using model::power;
using stage = model::preload_stage;
using namespace std::chrono_literals;

namespace {

/// A property of a template changes rarely alone: what follows is waited for.
constexpr auto after_property = 30.0;
constexpr auto after_shutdown = 4.0;
constexpr auto after_use = 5.0;

/// What failed is tried again after that long, then after twice as long, and so on.
constexpr auto first_pause = std::chrono::milliseconds{5s};
constexpr auto longest_pause = std::chrono::milliseconds{5min};

/// A disposable that is to go is looked after until it is gone.
constexpr auto first_look = std::chrono::milliseconds{1s};
constexpr auto rarest_look = std::chrono::milliseconds{1min};

std::string text_of(double seconds) {
  return fmt::format("{}", seconds);
}

/// Gone, down, or not what its template makes today. A disposable that runs has been taken.
bool is_stale(const model::view& v, const model::domain* x) {
  auto state = x ? v.facts(*x).state : power::halted;
  return state == power::halted || (state == power::paused && model::outdated(v, *x));
}

model::plan gone() {
  return {.before = {},
          .what = {},
          .after = {},
          .refusal = model::error{errc::vm_not_found, "it is gone", {}}};
}

} // namespace

disposables_actor::behavior_type
disposables(disposables_actor::stateful_pointer<disposables_state> self, world_ptr in) {
  return self->state.make(std::move(in));
}

disposables_actor::behavior_type disposables_state::make(world_ptr in) {
  world_ = std::move(in);
  return {
      [this](domains_known) { wake_up(); },
      [this](const take_disposable& x) {
        auto to = self->make_response_promise<caf::typed_response_promise<std::string>>();
        take(x, reply_to(to));
        return to;
      },
      [this](atom::review, const std::string& base) { review(base, after_property); },
      [this](atom::fill, const std::string& base) { fill_now(base); },
      [this](atom::outdated, const std::string& base) { drop_all(base, after_shutdown); },
      [this](atom::drop, const std::string& base) { drop_all(base, after_property); },
      [this](atom::used, const std::string& who) { used(who); },
      [this](atom::tick, const std::string& base) { fill(base); },
      [this](atom::retry, const std::string& base) {
        retries_[base].armed = false;
        fill(base);
      },
      [this](atom::recheck, const std::string& who) { let_go(who); },
      [](const completion& run) { run(); },
      [this](const answer& x) {
        if (auto found = asked_.extract(x.ticket))
          found.mapped()(x.result);
      },
  };
}

// -- owners --------------------------------------------------------------------------------------

bool disposables_state::is(const std::string& who, stage x) const {
  auto it = all_.find(who);
  return it != all_.end() && it->second.at == x;
}

/// False when the disposable is at a stage that does not lead there.
bool disposables_state::become(const std::string& who, stage x) {
  auto it = all_.find(who);
  if (it == all_.end() || !may_become(it->second.at, x))
    return false;
  it->second.at = x;
  if (x == stage::given)
    all_.erase(it);
  return true;
}

void disposables_state::know(const model::domain& x, const std::string& base, stage at) {
  all_.insert_or_assign(x.name.str(), one{base, x.uuid, at, first_look});
}

/// Disposables that the template has, or will have.
std::size_t disposables_state::count(const std::string& base) const {
  auto making = being_made_.find(base);
  auto made = std::ranges::count_if(all_, [&](auto& x) {
    return x.second.base == base && (x.second.at == stage::making || x.second.at == stage::ready);
  });
  return static_cast<std::size_t>(made) + (making == being_made_.end() ? 0 : making->second);
}

// -- the pool ------------------------------------------------------------------------------------

/// What an earlier life of the daemon left half done is of no use, wherever that life ended.
void disposables_state::wake_up() {
  auto now = world_->look();
  auto v = now.view();
  for (auto& base : now.system->domains) {
    auto broken = std::vector<std::string>{};
    for (auto& name : model::preloaded(*base)) {
      auto* x = now.find(name);
      if (x)
        know(*x, base->name, model::is_unfinished(*x) ? stage::making : stage::ready);
      if (!x || model::is_unfinished(*x) || v.facts(*x).state == power::halted)
        broken.push_back(name);
      else if (v.facts(*x).state != power::paused)
        used(name);
    }
    if (!broken.empty())
      discard(base->name, broken);
  }
  for (auto& x : now.system->domains)
    if (model::is_stray(v, *x)) {
      auto* base = model::template_of(v, *x);
      log(spdlog::level::warn, {.domain = x->name.str(), .method = {}},
          "it was made ready and is nobody's: it is removed");
      know(*x, base ? base->name.str() : std::string{}, stage::dying);
      let_go(x->name);
    }
}

/// A request to fill has waited for what comes first: the domains that start with the host.
void disposables_state::fill_now(const std::string& base) {
  auto now = world_->look();
  for (auto& x : now.system->domains)
    if (x->name.str() == base
        || (base.empty() && model::preload_most(now.view(), *x) > 0
            && model::can_preload(now.view(), *x)))
      review(x->name, 0);
}

/// The template's disposables may not be what it makes today, too many, or too few.
void disposables_state::review(const std::string& base, double delay) {
  auto now = world_->look();
  auto v = now.view();
  auto* me = now.find(base);
  if (!me)
    return;
  auto old = std::vector<std::string>{};
  for (auto& name : model::preloaded(*me))
    if ((!all_.contains(name) || is(name, stage::ready)) && is_stale(v, now.find(name)))
      old.push_back(name);
  if (!old.empty())
    discard(base, old);
  auto have = count(base);
  auto most = model::preload_most(v, *me);
  if (have < most && delay > 0)
    return fill_later(base, "outdated", delay);
  if (have < most)
    tell(base, "domain-preload-dispvm-start", {{"reason", "asked for"}});
  if (have != most)
    fill(base);
}

void disposables_state::fill_later(const std::string& base, const std::string& reason,
                                   double delay) {
  tell(base, "domain-preload-dispvm-start", {{"reason", reason}, {"delay", text_of(delay)}});
  self->delayed_send(self, std::chrono::milliseconds{static_cast<std::int64_t>(delay * 1000)},
                     atom::tick_v, base);
}

/// Whether there were too many: the newest go first.
bool disposables_state::trim(const std::string& base) {
  auto now = world_->look();
  auto* me = now.find(base);
  if (!me)
    return false;
  auto names = model::preloaded(*me);
  std::erase_if(names, [&](auto& x) { return !is(x, stage::making) && !is(x, stage::ready); });
  auto most = model::preload_most(now.view(), *me);
  if (names.size() <= most)
    return false;
  discard(base, {names.begin() + static_cast<std::ptrdiff_t>(most), names.end()});
  return true;
}

void disposables_state::fill(const std::string& base) {
  auto now = world_->look();
  auto v = now.view();
  auto* me = now.find(base);
  if (!me)
    return;
  if (trim(base))
    return;
  auto most = model::preload_most(v, *me);
  auto have = count(base);
  if (have >= most)
    return;
  if (!model::can_preload(v, *me)) {
    log(spdlog::level::warn, {.domain = base, .method = {}},
        "nothing is preloaded: its agents cannot tell when they are ready");
    return;
  }
  make_room_for(base, most - have);
}

/// As long as disposables are wanted. One attempt at a time: whatever fails meanwhile is part of
/// it.
void disposables_state::try_again(const std::string& base) {
  auto& mine = retries_[base];
  if (std::exchange(mine.armed, true))
    return;
  mine.pause = std::clamp(mine.pause * 2, first_pause, longest_pause);
  self->delayed_send(self, mine.pause, atom::retry_v, base);
}

/// Memory in use is not taken from running domains for those that only wait.
void disposables_state::make_room_for(const std::string& base, std::size_t want) {
  being_made_[base] += want; // the same gap is not filled twice
  auto go = [this, base, want](std::size_t can) {
    being_made_[base] -= want - can;
    for (auto i = std::size_t{0}; i < can; ++i)
      make_one(base);
    if (can < want) {
      log(spdlog::level::info, {.domain = base, .method = {}},
          fmt::format("{} of {} disposables are not preloaded yet: memory is short", want - can,
                      want));
      try_again(base);
    }
  };
  ask_driver(self, world_, {}, job::measure_free_memory{})
      .then(
          [this, base, want, go](std::optional<std::uint64_t> bytes) {
            auto now = world_->look();
            auto v = now.view();
            auto* me = now.find(base);
            if (!bytes || !me)
              return go(want);
            auto each = static_cast<std::uint64_t>(
                            std::max<std::int64_t>(model::read_int({v, me}, "memory"), 1))
                        << 20;
            auto spare = *bytes - std::min(*bytes, model::preload_reserve(v));
            go(std::min<std::size_t>(want, spare / each));
          },
          [go](const caf::error&) { go(0); });
}

/// "" is for all templates.
void disposables_state::drop_all(const std::string& base, double delay) {
  auto names = std::map<std::string, std::vector<std::string>>{};
  for (auto& [name, x] : all_)
    if (base.empty() || x.base == base)
      names[x.base].push_back(name);
  for (auto& [of, theirs] : names)
    discard(of, theirs);
  auto now = world_->look();
  auto* me = now.find(base);
  if (me && model::can_preload(now.view(), *me) && model::preload_most(now.view(), *me) > 0)
    fill_later(base, "dropped", delay);
}

// -- one disposable ------------------------------------------------------------------------------

void disposables_state::make_one(const std::string& base) {
  auto who = std::make_shared<std::string>(); // known once it is created
  sequence{}.run({
      [this, base, who](auto& next) {
        auto request = model::creation{};
        request.type = model::klass::disp;
        request.based_on = base;
        request.disposable = true;
        request.preloaded = true;
        ask({}, ask::create_disposable{std::move(request)},
            [this, base, who, next](const model::outcome<std::string>& name) {
              --being_made_[base];
              auto now = world_->look();
              auto* x = name ? now.find(*name) : nullptr;
              if (!x)
                return given_up(base, {}, name ? "it is gone" : name.error().text);
              know(*x, base, stage::making);
              *who = *name;
              next();
            });
      },
      [this, base, who](auto& next) {
        auto begun = [who = *who](const model::view& v) {
          auto* x = v.system.find(who);
          return x ? plan_preload_begun(v, *x) : model::plan{};
        };
        commit(begun, [this, base, who, next](bool done) {
          if (!done)
            return given_up(base, *who, "it could not be recorded");
          trim(base); // fewer may be wanted by now
          if (is(*who, stage::making))
            next();
        });
      },
      [this, base, who](auto&) {
        ask(*who, ask::start{}, [this, base, who](const auto& started) {
          if (!started)
            return given_up(base, *who, started.error().text);
          began(base, *who);
        });
      },
  });
}

void disposables_state::began(const std::string& base, const std::string& who) {
  auto now = world_->look();
  auto* x = now.find(who);
  if (!x)
    return given_up(base, who, "it is gone");
  await_ready(base, who, model::readiness_services(now.view(), *x));
}

void disposables_state::await_ready(const std::string& base, const std::string& who,
                                    std::vector<std::string> services) {
  if (!is(who, stage::making))
    return;
  auto now = world_->look();
  auto* x = now.find(who);
  if (!x)
    return given_up(base, who, "it is gone");
  if (services.empty())
    return shrink(base, who);
  auto what = job::run_service{
      .call = {.service = services.front(), .user = model::service_user(now.view(), *x)},
      .patience = std::chrono::seconds{model::read_int({now.view(), x}, "qrexec_timeout")}};
  services.erase(services.begin());
  ask_driver(self, world_, about(*x, std::move(what)))
      .then([this, base, who, services] { await_ready(base, who, services); },
            [this, base, who](const caf::error& why) { given_up(base, who, from_caf(why).text); });
}

/// Memory that a start needs is not needed while the disposable waits. Not getting it back is no
/// reason to give up.
void disposables_state::shrink(const std::string& base, const std::string& who) {
  auto now = world_->look();
  auto* x = now.find(who);
  if (!x)
    return given_up(base, who, "it is gone");
  auto what = about(*x, job::shrink_memory{.patience = world_->settings.start});
  what.about.xid = now.view().facts(*x).xid;
  ask_driver(self, world_, std::move(what))
      .then([this, base, who] { hold(base, who); },
            [this, base, who](const caf::error& why) {
              log(spdlog::level::warn, {.domain = who, .method = {}},
                  fmt::format("its memory stays as it is: {}", from_caf(why).text));
              hold(base, who);
            });
}

/// From here on an end of the disposable is seen as that of any that waits.
void disposables_state::hold(const std::string& base, const std::string& who) {
  if (!is(who, stage::making))
    return;
  ask(who, ask::pause{}, [this, base, who](const auto& held) {
    if (!held)
      return given_up(base, who, held.error().text);
    if (!become(who, stage::ready))
      return;
    commit(
        [this, who](const model::view& v) {
          auto* x = v.system.find(who);
          return x && is(who, stage::ready) && model::is_preload(v, *x) ? plan_preload_ready(v, *x)
                                                                        : model::plan{};
        },
        [this, base, who](bool done) {
          if (!done)
            return given_up(base, who, "it could not be recorded");
          retries_[base].pause = {};
        });
  });
}

void disposables_state::given_up(const std::string& base, const std::string& who,
                                 const std::string& why) {
  if (!who.empty() && !is(who, stage::making) && !is(who, stage::ready))
    return; // the disposable is going already
  log(spdlog::level::warn, {.domain = base, .method = {}},
      fmt::format("preloading {} failed: {}", who.empty() ? "a disposable" : who, why));
  if (!who.empty())
    discard(base, {who});
  try_again(base);
}

/// Off the list first, so that no client is given one that is about to go. Those that are promised
/// or given stay, and so does one that was let go on.
void disposables_state::discard(const std::string& base, const std::vector<std::string>& names) {
  auto now = world_->look();
  auto going = std::vector<std::string>{};
  for (auto& name : names) {
    auto* x = now.find(name);
    auto ours = is(name, stage::making) || is(name, stage::ready);
    if (x && is(name, stage::ready) && now.view().facts(*x).state == power::running)
      used(name);
    else if ((ours && become(name, stage::dying)) || !x)
      going.push_back(name);
  }
  if (!going.empty())
    take_off(base, going);
}

/// These disposables belong to no client.
void disposables_state::take_off(const std::string& base, const std::vector<std::string>& going) {
  commit(
      [base, going](const model::view& v) {
        auto* x = v.system.find(base);
        return x ? plan_preload_discarded(v, *x, going) : model::plan{};
      },
      [this, base, going](bool done) { done ? let_all_go(going) : take_off_apart(base, going); });
}

/// A change of several records is refused for one of them that has just removed itself. The marks
/// come first: a daemon that dies between two changes finds these disposables again.
void disposables_state::take_off_apart(const std::string& base,
                                       const std::vector<std::string>& going) {
  for (auto& name : going)
    commit(
        [base, name](const model::view& v) {
          auto* of = v.system.find(base);
          auto* x = v.system.find(name);
          return of && x ? plan_preload_disowned(v, *of, *x) : model::plan{};
        },
        [](bool) {});
  delist(base, going, [this, going](bool) { let_all_go(going); });
}

void disposables_state::delist(const std::string& base, const std::vector<std::string>& names,
                               then_do then) {
  commit(
      [base, names](const model::view& v) {
        auto* x = v.system.find(base);
        return x ? plan_preload_delisted(v, *x, names) : model::plan{};
      },
      std::move(then));
}

void disposables_state::let_all_go(const std::vector<std::string>& going) {
  for (auto& x : going)
    let_go(x);
}

/// A disposable that runs removes itself when it is down; when that fails, it is done again.
void disposables_state::let_go(const std::string& who) {
  auto it = all_.find(who);
  if (it == all_.end() || it->second.at != stage::dying)
    return;
  auto now = world_->look();
  auto* x = now.find(who);
  if (!x || x->uuid != it->second.uuid)
    return forget(who);
  self->delayed_send(self, it->second.next_look, atom::recheck_v, who);
  it->second.next_look = std::min(it->second.next_look * 2, rarest_look);
  ask(who, ask::kill{}, [this, who, uuid = x->uuid](const model::outcome<std::string>& killed) {
    if (auto now = world_->system.read(); killed || !now->find_uuid(uuid))
      return;
    if (killed.error().code == errc::vm_not_started)
      return ask(who, ask::remove{}, [](const auto&) {});
    log(spdlog::level::warn, {.domain = who, .method = {}},
        fmt::format("it was ready, is not wanted, and cannot be killed: {}", killed.error().text));
  });
}

/// Nothing is left of the disposable.
void disposables_state::forget(const std::string& who) {
  auto base = all_.at(who).base;
  all_.erase(who);
  commit(
      [base, who](const model::view& v) {
        auto* x = v.system.find(base);
        return x && !v.system.find(who) ? plan_preload_delisted(v, *x, {who}) : model::plan{};
      },
      [](bool) {});
}

// -- handing out ---------------------------------------------------------------------------------

/// The oldest that is ready and good; "" when there is none.
void disposables_state::take(const take_disposable& wanted, const reply& to) {
  auto& base = wanted.disposable_template;
  auto now = world_->look();
  auto v = now.view();
  auto* me = now.find(base);
  if (!me)
    return to.ok();
  auto chosen = std::string{};
  auto old = std::vector<std::string>{};
  for (auto& name : model::preloaded(*me)) {
    auto* x = now.find(name);
    if (!is(name, stage::ready))
      continue;
    if (is_stale(v, x))
      old.push_back(name);
    else if (chosen.empty() && model::is_ready(v, *x))
      chosen = name;
  }
  if (!old.empty())
    discard(base, old);
  if (chosen.empty() || !become(chosen, stage::promised))
    return to.ok();
  auto failed = [this, base = base, chosen, to](const std::string& why) {
    log(spdlog::level::warn, {.domain = chosen, .method = {}},
        fmt::format("it was ready and cannot be used: {}", why));
    if (become(chosen, stage::dying))
      take_off(base, {chosen});
    fill_gap(base);
    to.ok(); // a fresh one will do
  };
  sequence{}.run({
      [this, chosen, creator = wanted.for_domain, failed](auto& next) {
        auto taken = [chosen, creator](const model::view& v) {
          auto* x = v.system.find(chosen);
          return x ? plan_preload_taken(v, *x, creator) : gone();
        };
        commit(taken, [failed, next](bool done) {
          done ? next() : failed("its record cannot be changed");
        });
      },
      [this, wanted, chosen, failed](auto& next) {
        if (is_cancelled(wanted.cancellation))
          return failed("nobody waits for it any more");
        ask(chosen, ask::unpause{},
            [failed, next](const auto& woken) { woken ? next() : failed(woken.error().text); });
      },
      [this, wanted, chosen, to, failed](auto&) {
        auto used = [chosen](const model::view& v) {
          auto* x = v.system.find(chosen);
          return x ? plan_preload_used(v, *x) : gone();
        };
        commit(used, [this, wanted, chosen, to, failed](bool done) {
          auto& base = wanted.disposable_template;
          if (!done)
            return failed("its record cannot be changed");
          if (is_cancelled(wanted.cancellation))
            return failed("nobody waits for it any more");
          become(chosen, stage::given);
          tell(base, "domain-preload-dispvm-used", {{"dispvm", chosen}, {"delay", "0"}});
          fill_gap(base);
          to.ok(chosen);
        });
      },
  });
}

/// One of the list was let go on, by whatever means.
void disposables_state::used(const std::string& who) {
  auto now = world_->look();
  auto* x = now.find(who);
  auto* base =
      x && model::is_preload(now.view(), *x) ? model::template_of(now.view(), *x) : nullptr;
  if (!base || !become(who, stage::given))
    return;
  commit(
      [who](const model::view& v) {
        auto* x = v.system.find(who);
        return x ? plan_preload_used(v, *x) : model::plan{};
      },
      [this, who, base = base->name.str()](bool done) {
        if (!done)
          delist(base, {who}, [](bool) {}); // it removed itself meanwhile
        tell(base, "domain-preload-dispvm-used", {{"dispvm", who}, {"delay", "0"}});
        fill_gap(base);
      });
}

void disposables_state::fill_gap(const std::string& base) {
  auto now = world_->look();
  auto* me = now.find(base);
  if (!me)
    return;
  auto delay = model::preload_delay(now.view(), *me);
  if (delay >= 0 || model::preloaded(*me).empty())
    fill_later(base, "gap", std::max(after_use, delay));
}

// -- means ---------------------------------------------------------------------------------------

void disposables_state::commit(planner what, then_do then) {
  commits_.emplace_back(std::move(what), std::move(then));
  if (!committing_)
    next_commit();
}

void disposables_state::next_commit() {
  while (!commits_.empty()) {
    auto [what, then] = std::move(commits_.front());
    commits_.pop_front();
    auto now = world_->look();
    auto plan = with_consequences(now.view(), what(now.view()));
    if (plan.refusal || plan.what.empty()) {
      then(!plan.refusal);
      continue;
    }
    committing_ = true;
    auto over = [this, then = std::move(then)](bool done) {
      committing_ = false;
      then(done);
      if (!committing_)
        next_commit();
    };
    actors::commit(
        self, world_, plan.what, discarded_reply(),
        [this, plan, over, before = now.system](const model::system_ptr&) {
          tell_plan(self, world_, before, plan);
          over(true);
        },
        [over](const caf::error& why) {
          log(spdlog::level::warn, {.domain = {}, .method = {}}, from_caf(why).text);
          over(false);
        });
    return;
  }
}

/// "" is the host.
void disposables_state::ask(const std::string& whom, order what, answered then) {
  auto ticket = next_ticket_++;
  asked_.emplace(ticket, std::move(then));
  hand_on(*world_, whom, std::move(what), reply_to(ticket, client_actor{disposables_actor{self}}));
}

void disposables_state::tell(const std::string& base, std::string event,
                             std::vector<std::pair<std::string, std::string>> args) {
  self->send(world_->events, events{model::event{base, std::move(event), std::move(args)}});
}

} // namespace qubes::actors
