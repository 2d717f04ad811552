#include "actors/driver/driver.hpp"

#include "actors/driver/jobs.hpp"
#include "actors/off_thread.hpp"
#include "drivers/xenstore_guest.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <type_traits>
#include <variant>

namespace qubes::actors {

using drivers::lane;
using model::errc;
using model::outcome;

namespace {

/// Does the job, with its own handler.
outcome<driver_result> carry_out(machinery& with, const driver_job& x) {
  return std::visit(
      [&]<class Job>(const Job& what) {
        auto done = run(with, x.about, what);
        static_assert(std::is_same_v<decltype(done), outcome<typename Job::result>>);
        return std::move(done).map([]<class... Found>(Found&&... found) {
          return driver_result::of<Job>(std::forward<Found>(found)...);
        });
      },
      x.what);
}

bool is_build(const driver_job& x) {
  return std::holds_alternative<job::create_guest>(x.what);
}

bool is_kill(const driver_job& x) {
  return std::holds_alternative<job::kill_guest>(x.what)
         || std::holds_alternative<job::take_back_guest>(x.what);
}

model::error waited_too_long(const driver_job& x) {
  return {
      errc::hypervisor,
      fmt::format("{} of '{}' was given up before its turn came", manner_of(x).call, x.about.name),
      {}};
}

/// Connects, learns what the hypervisor tells of the host, and lists the guests that live.
outcome<std::vector<model::guest>> open_connection(const std::shared_ptr<machinery>& with,
                                                   const world_ptr& world) {
  if (auto open = with->hypervisor->connect(); !open)
    return tl::unexpected{open.error()};
  auto machine = *world->machine.read();
  if (auto told = with->hypervisor->describe_host(machine); !told)
    return tl::unexpected{told.error()};
  if (auto kib = drivers::read_number(with->xenstore.get(), "/local/domain/0/memory/static-max"))
    machine.dom0_memory_mib = *kib / 1024;
  world->machine.update([&](model::host& x) {
    machine.callbacks = std::move(x.callbacks); // the registry's
    machine.kernels = std::move(x.kernels);     // of whoever watches them
    machine.timezone = std::move(x.timezone);
    x = std::move(machine);
  });
  auto all = with->hypervisor->list();
  if (!all)
    return all;
  std::erase_if(*all, [](auto& x) { return x.xid == 0; }); // dom0 is no guest
  for (auto& x : *all)
    complete(*with, x);
  return all;
}

} // namespace

driver_actor::behavior_type driver(driver_actor::stateful_pointer<driver_state> self, world_ptr in,
                                   machinery with) {
  return self->state.make(std::move(in), std::move(with));
}

driver_actor::behavior_type driver_state::make(world_ptr in, machinery with) {
  world_ = std::move(in);
  with_ = std::make_shared<machinery>(std::move(with));
  reason_ = "it has not been opened yet";
  auto tell = [me = caf::actor_addr{self->address()}](auto... x) {
    if (auto to = caf::actor_cast<driver_actor>(me))
      caf::anon_send(to, std::move(x)...);
  };
  with_->hypervisor->listen(
      {.on_guest =
           [tell](const std::string& uuid, const std::string& domain, model::guest_event what) {
             tell(news{domain, uuid, what});
           },
       .on_lost = [tell](const std::string& why) { tell(atom::lost_v, why); },
       .on_host_devices = [tell] { tell(atom::hardware_v); }});
  with_->tools->listen({.changed =
                            [tell](const std::string& domain, const std::string& path) {
                              tell(guest_news{domain, path});
                            },
                        .ended = [tell](const std::string& domain) { tell(watch_end{domain}); }});
  with_->tools->listen_agents(
      [tell](std::set<std::string> names) { tell(agents_now{std::move(names)}); });
  if (with_->xenstore) {
    auto heard = [tell](const std::string&) { tell(atom::reconcile_v); };
    if (auto done = with_->xenstore->watch("@releaseDomain", "qvmd", heard); !done)
      spdlog::error("no news from XenStore: {}", done.error().message());
  }
  return {
      answer_probe,
      [this](const driver_job& x) { return take(x); },
      [this](atom::start) { return connect(); },
      [this](atom::lost, const std::string& why) { lose(why); },
      [this](const news& x) { route(x); },
      [this](const guest_news& x) { route(x); },
      [this](const watch_end& x) { route(x); },
      [this](const agents_now& x) { agents_are(x.names); },
      [this](atom::reconcile) { look_at_all(); },
      [](const completion& run) { run(); },
      [this](atom::tick) { try_connect(); },
      [this](atom::hardware) { learn_pci(); },
  };
}

// -- jobs --------------------------------------------------------------------------------------

caf::result<driver_result> driver_state::take(const driver_job& x) {
  auto& how = manner_of(x);
  auto to = self->make_response_promise<caf::typed_response_promise<driver_result>>();
  if (auto refused = admit(x)) {
    to.deliver(to_caf(std::move(*refused)));
    return to;
  }
  auto number = ++last_call_;
  calls_.emplace(number,
                 call{.name = how.call, .domain = x.about.name, .builds = is_build(x), .to = to});
  auto late = [clock = &self->clock(), most = limit_of(x, world_->settings),
               begin = self->clock().now(), harmless = how.may_begin_late()] {
    return !harmless && most != no_deadline && clock->now() - begin >= most;
  };
  off_thread(
      driver_actor{self}, *with_->lanes, how.where, fmt::format("{}{}", x.about.name, how.turn),
      [](const std::shared_ptr<machinery>& with, const driver_job& x,
         const auto& late) -> outcome<driver_result> {
        if (late())
          return tl::unexpected{waited_too_long(x)};
        return carry_out(*with, x);
      },
      [this, number](outcome<driver_result> result) { returned(number, std::move(result)); }, with_,
      x, late);
  return to;
}

/// Nobody can say that a guest is gone while a build that was given up still runs.
std::optional<model::error> driver_state::admit(const driver_job& x) const {
  if (manner_of(x).call.empty())
    return std::nullopt;
  if (!connected_)
    return model::error{errc::hypervisor, "the hypervisor is out of reach: " + reason_,
                        "qvmd keeps trying to reach it"};
  auto builds_it = [&](auto& it) { return it.second.builds && it.second.domain == x.about.name; };
  if (is_kill(x) && std::ranges::any_of(calls_, builds_it))
    return model::error{
        errc::hypervisor, fmt::format("the hypervisor still builds '{}'", x.about.name), {}};
  return std::nullopt;
}

void driver_state::returned(std::uint64_t number, outcome<driver_result> result) {
  auto to = calls_.extract(number).mapped().to;
  if (!to.pending()) // the connection was lost meanwhile, and so was the answer
    return;
  if (result)
    to.deliver(std::move(*result));
  else
    to.deliver(to_caf(result.error()));
}

/// Answers all who wait for the hypervisor; says what that costs.
std::string driver_state::break_off(const std::string& why) {
  auto cost = std::vector<std::string>{};
  for (auto& [number, x] : calls_) {
    if (x.name.empty() || !x.to.pending())
      continue;
    cost.push_back(x.domain.empty() ? std::string{x.name}
                                    : fmt::format("{} of '{}'", x.name, x.domain));
    x.to.deliver(to_caf({errc::hypervisor,
                         "the hypervisor went out of reach while this was under way: " + why,
                         "qvmd keeps trying to reach it"}));
  }
  return cost.empty() ? why : fmt::format("{}; broken off: {}", why, fmt::join(cost, ", "));
}

// -- the connection ----------------------------------------------------------------------------

caf::result<void> driver_state::connect() {
  auto to = self->make_response_promise<caf::typed_response_promise<void>>();
  waiting_.push_back(to);
  if (connected_)
    answer_waiting();
  else
    try_connect();
  return to;
}

void driver_state::try_connect() {
  if (connected_ || std::exchange(connecting_, true))
    return;
  off_thread(
      driver_actor{self}, *with_->lanes, lane::host, "", open_connection,
      [this](const outcome<std::vector<model::guest>>& found) { connected(found); }, with_, world_);
}

void driver_state::connected(outcome<std::vector<model::guest>> found) {
  connecting_ = false;
  if (!found) {
    lose(found.error().message());
  } else {
    connected_ = true;
    reason_.clear();
    back_off_ = {};
    spdlog::info("connected to the hypervisor; {} domains are active", found->size());
    world_->status.set(status_board::hypervisor_state{.connected = true, .type = {}, .reason = {}});
    learn_pci();
    auto actors = world_->directory.read();
    for (auto& who : actors->entries()) {
      auto i = std::ranges::find(*found, who->uuid, &model::guest::uuid);
      ++untold_;
      self->request(who->domain, caf::infinite, atom::reconcile_v,
                    i == found->end() ? model::guest{} : *i)
          .then(
              [this, who] {
                if (agents_)
                  self->send(who->domain, agent_news{agents_->contains(who->name)});
                heard();
              },
              [this](const caf::error&) { heard(); });
    }
  }
  answer_waiting();
}

/// One domain more knows the truth, or is no more.
void driver_state::heard() {
  --untold_;
  answer_waiting();
}

void driver_state::answer_waiting() {
  if (untold_ > 0)
    return;
  for (auto& x : std::exchange(waiting_, {}))
    deliver(x);
}

void driver_state::lose(const std::string& why) {
  auto fresh = connected_ || reason_ != why;
  connected_ = false;
  reason_ = why;
  learn_pci();
  auto told = break_off(why);
  if (fresh)
    spdlog::error("the hypervisor is out of reach: {}", told);
  world_->status.set(
      status_board::hypervisor_state{.connected = false, .type = {}, .reason = told});
  retry_later();
}

void driver_state::retry_later() {
  auto& x = world_->settings;
  back_off_ =
      back_off_.count() == 0 ? x.reconnect_first : std::min(back_off_ * 2, x.reconnect_most);
  self->delayed_send(self, back_off_, atom::tick_v);
}

/// Until it is known again, whoever wants to know asks.
void driver_state::learn_pci() {
  auto number = ++pci_number_;
  world_->host_pci.update([](auto& x) { x.reset(); });
  if (!connected_ || !with_->hypervisor->can().host_news)
    return;
  off_thread(
      driver_actor{self}, *with_->lanes, lane::host, "",
      [](const std::shared_ptr<machinery>& with) { return run(*with, {}, job::list_pci{}); },
      [this, number](const outcome<std::vector<model::device>>& found) {
        if (found && number == pci_number_)
          world_->host_pci.update([&](auto& x) { x = *found; });
      },
      with_);
}

/// Libvirt's own news of a stop may be lost; each domain finds out for itself.
void driver_state::look_at_all() {
  auto actors = world_->directory.read();
  for (auto& x : world_->system.read()->domains) {
    auto* who = actors->find(x->name.str());
    if (who && world_->board.read(x->qid).xid >= 0)
      self->send(who->domain, news{x->name, x->uuid, model::guest_event::stopped});
  }
}

void driver_state::agents_are(const std::set<std::string>& names) {
  auto before = std::exchange(agents_, names);
  auto actors = world_->directory.read();
  for (auto& who : actors->entries()) {
    auto there = names.contains(who->name);
    if (!before || before->contains(who->name) != there)
      self->send(who->domain, agent_news{there});
  }
}

template <class News>
void driver_state::route(const News& x) {
  auto actors = world_->directory.read();
  if (auto* who = actors->find(x.domain))
    self->send(who->domain, x);
}

} // namespace qubes::actors
