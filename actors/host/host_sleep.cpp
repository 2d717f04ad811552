#include "actors/host/host_sleep.hpp"

#include "actors/common/ask_driver.hpp"
#include "actors/common/in_order.hpp"
#include "model/property/feature.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

namespace qubes::actors {

using model::errc;
using model::power;

namespace {

/// A domain that is starting or going down counts, too.
bool runs(const model::domain&, power state) {
  return state == power::running || state == power::starting || state == power::halting;
}

bool rests(const model::domain&, power state) {
  return state == power::paused || state == power::suspended;
}

} // namespace

sleep_actor::behavior_type host_sleep(sleep_actor::stateful_pointer<sleep_state> self,
                                      world_ptr in) {
  return self->state.make(std::move(in));
}

sleep_actor::behavior_type sleep_state::make(world_ptr in) {
  world_ = std::move(in);
  return {
      [this](const order& x, const reply& to) { obey(x, to); },
      [this](const answer& x) { answered(x); },
      [this](atom::overdue, std::uint64_t ticket) { overdue(ticket); },
  };
}

void sleep_state::obey(const order& x, const reply& to) {
  dispatch<ask::receiver::sleep>(x, to, [&](const auto& what) {
    waiting_.emplace_back([this, what, to] { carry_out(what, to); });
    next();
  });
}

void sleep_state::next() {
  if (busy_ || waiting_.empty())
    return;
  busy_ = true;
  auto begin = std::move(waiting_.front());
  waiting_.pop_front();
  begin();
}

void sleep_state::finish(const reply& to, model::outcome<std::string> how) {
  to.give(std::move(how));
  busy_ = false;
  next();
}

// -- going to sleep ------------------------------------------------------------------------------

/// Domains that rested before are noted first, so that a restart of the daemon in between forgets
/// none. Preloaded disposables are not kept over it.
void sleep_state::carry_out(const ask::suspend_host&, const reply& to) {
  self->send(world_->disposables, atom::drop_v, std::string{});
  sequence{}.run({
      [this, to](auto& next) {
        ask_driver(self, world_, {}, job::note_paused{those(rests)})
            .then([next] { next(); },
                  [this, to](const caf::error& why) { finish(to, tl::unexpected{from_caf(why)}); });
      },
      [this](auto& next) { run_services("qubes.SuspendPreAll", with_agent(those(runs)), next); },
      [this, to](auto&) {
        ask_at_once(ask::suspend{}, those(runs), [this, to](const names& failures) {
          if (failures.empty())
            return finish(to, std::string{});
          finish(to, model::fail(errc::general, fmt::format("not all domains sleep: {}",
                                                            fmt::join(failures, "; "))));
        });
      },
  });
}

// -- waking up -----------------------------------------------------------------------------------

void sleep_state::carry_out(const ask::resume_host&, const reply& to) {
  auto before = std::make_shared<std::set<std::string>>(); // rested already when the host did not
  sequence{}.run({
      [this, before](auto& next) {
        ask_driver(self, world_, {}, job::take_paused{})
            .then(
                [before, next](std::set<std::string>& noted) {
                  *before = std::move(noted);
                  next();
                },
                [next](const caf::error& why) {
                  spdlog::error("who was paused before the host's sleep is not known: {}",
                                from_caf(why).message());
                  next();
                });
      },
      [this, before](auto& next) {
        auto sleepers = those(rests);
        std::erase_if(sleepers, [&](auto& x) { return before->contains(x); });
        ask_at_once(ask::resume{}, sleepers, [next](const names& failures) {
          for (auto& x : failures)
            spdlog::error("after the host's sleep: {}", x);
          next();
        });
      },
      [this](auto& next) { run_services("qubes.SuspendPostAll", with_agent(those(runs)), next); },
      [this, to](auto&) {
        self->send(world_->disposables, atom::fill_v, std::string{});
        finish(to, std::string{});
      },
  });
}

// -- asking many ---------------------------------------------------------------------------------

sleep_state::names
sleep_state::those(const std::function<bool(const model::domain&, power)>& which) const {
  auto now = world_->look();
  auto result = names{};
  for (auto& x : now.system->domains)
    if (x->is(model::qubes_vm) && which(*x, now.view().facts(*x).state))
      result.push_back(x->name);
  return result;
}

sleep_state::names sleep_state::with_agent(names some) const {
  auto now = world_->look();
  std::erase_if(some, [&](auto& name) {
    auto* x = now.find(name);
    return !x || !now.view().facts(*x).agent
           || !model::has_feature(now.view(), *x, "qrexec", model::chain::with_template);
  });
  return some;
}

void sleep_state::run_services(const std::string& service, const names& in,
                               const std::function<void()>& then) {
  auto news = events{};
  for (auto& x : in)
    news.push_back({x, "domain-cmd-pre-run", {{"start_guid", "False"}}});
  self->send(world_->events, std::move(news));
  ask_at_once(ask::run_service{service}, in, [service, then](const names& failures) {
    for (auto& x : failures)
      spdlog::warn("{}: {}", service, x);
    then();
  });
}

void sleep_state::ask_at_once(const order& what, const names& whom, report_of_all then) {
  then_ = std::move(then);
  for (auto& x : whom)
    ask(what, x);
  done();
}

/// A domain that is not there any more need not be asked.
void sleep_state::ask(order what, const std::string& whom) {
  auto actors = world_->directory.read();
  auto* entry = actors->find(whom);
  if (!entry || !entry->domain)
    return;
  auto ticket = ++tickets_;
  open_.emplace(ticket, whom);
  // The domain's service before the sleep, then the sleep itself, behind work that waits for the
  // guest.
  self->delayed_send(self, 3 * world_->settings.guest_call, atom::overdue_v, ticket);
  self->send(entry->domain, std::move(what), reply_to(ticket, client_actor{self}));
}

/// A domain that has stopped, has no guest yet, or goes on already, needs no sleep.
void sleep_state::answered(const answer& x) {
  constexpr errc harmless[]{errc::vm_not_running, errc::vm_not_started, errc::vm_not_paused};
  auto i = open_.find(x.ticket);
  if (i == open_.end())
    return;
  if (!x.result && std::ranges::find(harmless, x.result.error().code) == std::end(harmless))
    failures_.push_back(fmt::format("'{}': {}", i->second, x.result.error().message()));
  open_.erase(i);
  done();
}

/// The guest may hang, or its actor is no more: the others wait no longer for this guest.
void sleep_state::overdue(std::uint64_t ticket) {
  if (auto i = open_.find(ticket); i != open_.end())
    answered({ticket,
              model::fail(errc::timed_out, fmt::format("'{}' did not answer in time", i->second))});
}

void sleep_state::done() {
  if (!open_.empty() || !then_)
    return;
  auto then = std::exchange(then_, nullptr);
  then(std::exchange(failures_, {}));
}

} // namespace qubes::actors
