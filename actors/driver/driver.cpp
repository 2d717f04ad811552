#include "actors/driver/driver.hpp"

#include "actors/common/off_thread.hpp"
#include "actors/driver/jobs.hpp"
#include "drivers/guest/xenstore_guest.hpp"
#include "drivers/hypervisor/begin_limit.hpp"
#include "model/base/name.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/reachable.hpp"

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

/// Refused at once where the agent cannot hear: whoever called it would wait for nothing.
outcome<driver_result> carry_out_by_agent(machinery& with, const snapshot& now,
                                          const driver_job& x) {
  auto& name = x.about.name;
  auto* guest = now.find(name);
  if (!guest) // it may be a stub domain
    guest = now.find(model::guest_of_stub(name));
  if (!guest || guest->is(model::admin_vm))
    return carry_out(with, x);
  if (auto awake = model::check_awake(now.view(), *guest); !awake)
    return tl::unexpected{std::move(awake.error())};
  if (with.of(x.about).can().agent && !with.tools->agent_connected(name))
    return tl::unexpected{model::no_agent(name)};
  return carry_out(with, x);
}

/// As refusals call it.
std::string_view name_of(model::hypervisor_id x) {
  return x == model::hypervisor_id::host ? "the hypervisor" : "the hypervisor of containers";
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

/// Learns what the host's own hypervisor tells of it.
outcome<void> describe_host(const std::shared_ptr<machinery>& with, const world_ptr& world) {
  auto machine = *world->machine.read();
  if (auto told = with->hypervisor->describe_host(machine); !told)
    return told;
  if (auto kib = drivers::read_number(with->xenstore.get(), "/local/domain/0/memory/static-max"))
    machine.dom0_memory_mib = *kib / 1024;
  world->machine.update([&](model::host& x) {
    machine.callbacks = std::move(x.callbacks); // the registry's
    machine.kernels = std::move(x.kernels);     // of whoever watches them
    machine.timezone = std::move(x.timezone);
    x = std::move(machine);
  });
  return {};
}

/// Connects, and lists the guests that live.
outcome<std::vector<model::guest>> open_connection(const std::shared_ptr<machinery>& with,
                                                   const world_ptr& world,
                                                   model::hypervisor_id at) {
  auto& hypervisor = *with->find(at);
  if (auto open = hypervisor.connect(); !open)
    return tl::unexpected{open.error()};
  if (at == model::hypervisor_id::host)
    if (auto told = describe_host(with, world); !told)
      return tl::unexpected{told.error()};
  auto all = hypervisor.list();
  if (!all)
    return all;
  std::erase_if(*all, [](auto& x) { return x.xid == 0; }); // dom0 is no guest
  for (auto& x : *all)
    complete(*with, at, x);
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
  for (auto at : model::all_hypervisors) {
    link_to(at).reason = "it has not been opened yet";
    listen_to(at);
  }
  auto tell = [me = caf::actor_addr{self->address()}](auto... x) {
    if (auto to = caf::actor_cast<driver_actor>(me))
      caf::anon_send(to, std::move(x)...);
  };
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
      [this](const hypervisor_lost& x) { lose(x.at, x.why); },
      [this](const news& x) {
        follow(x);
        route(x);
      },
      [this](const guest_news& x) { route(x); },
      [this](const watch_end& x) { route(x); },
      [this](const agents_now& x) { agents_are(x.names); },
      [this](atom::reconcile) { look_at_all(); },
      [](const completion& run) { run(); },
      [this](const reconnect& x) { try_connect(x.at); },
      [this](atom::hardware) { learn_pci(); },
  };
}

void driver_state::listen_to(model::hypervisor_id x) {
  auto* hypervisor = with_->find(x);
  if (!hypervisor) {
    link_to(x).tried = true;
    link_to(x).reason = fmt::format("{} is not configured", model::key_of(x));
    return;
  }
  auto tell = [me = caf::actor_addr{self->address()}](auto... what) {
    if (auto to = caf::actor_cast<driver_actor>(me))
      caf::anon_send(to, std::move(what)...);
  };
  hypervisor->listen(
      {.on_guest =
           [tell, x](const std::string& uuid, const std::string& domain, model::guest_event what) {
             tell(news{domain, uuid, what, x});
           },
       .on_lost =
           [tell, x](const std::string& why) {
             tell(hypervisor_lost{x, why});
           },
       .on_host_devices =
           [tell, x] {
             if (x == model::hypervisor_id::host)
               tell(atom::hardware_v);
           }});
}

// -- jobs --------------------------------------------------------------------------------------

/// Of a domain that nobody knows any more it is the host's own.
model::hypervisor_id driver_state::place_of(const domain_identity& x) const {
  if (x.at)
    return *x.at;
  auto now = world_->look();
  auto* record = now.find(x.name);
  return record ? model::hypervisor_of(now.view(), *record) : model::hypervisor_id::host;
}

caf::result<driver_result> driver_state::take(const driver_job& what) {
  auto x = what;
  auto at = place_of(x.about);
  x.about.at = at;
  auto& how = manner_of(x);
  auto to = self->make_response_promise<caf::typed_response_promise<driver_result>>();
  if (auto refused = admit(x, at)) {
    to.deliver(to_caf(std::move(*refused)));
    return to;
  }
  auto number = ++last_call_;
  calls_.emplace(number,
                 call{.name = how.call,
                      .domain = x.about.name,
                      .at = at,
                      .builds = is_build(x),
                      .measures_memory = std::holds_alternative<job::measure_free_memory>(x.what),
                      .to = to});
  if (auto doing = doing_of(x); !doing.empty())
    world_->status.begin_call(number,
                              x.about.awaited_by.empty() ? x.about.name : x.about.awaited_by,
                              {std::move(doing), "in line", world_->now_us()});
  auto most = limit_of(x, world_->settings);
  auto limited = !how.may_begin_late() && most != no_deadline;
  auto left = [clock = &self->clock(), most, asked = self->clock().now(), limited] {
    return limited ? std::chrono::ceil<std::chrono::milliseconds>(asked + most - clock->now())
                   : drivers::begin_limit::unlimited;
  };
  auto turn = fmt::format("{}{}", x.about.name, how.turn);
  off_thread(
      driver_actor{self}, with_->lanes_of(at, how.where), how.where, std::move(turn),
      [](const std::shared_ptr<machinery>& with, const driver_job& x, const auto& left,
         const std::weak_ptr<world>& of, std::uint64_t number) -> outcome<driver_result> {
        auto limit = drivers::begin_limit{left};
        if (!drivers::begin_limit::may_go_on())
          return tl::unexpected{waited_too_long(x)};
        auto in = of.lock(); // a call may outlive its daemon
        if (in)
          in->status.go_on_with_call(number, "under way");
        auto done = in && manner_of(x).by_agent ? carry_out_by_agent(*with, in->look(), x)
                                                : carry_out(*with, x);
        if (!done && limit.given_up())
          return tl::unexpected{waited_too_long(x)};
        return done;
      },
      [this, number](outcome<driver_result> result) { returned(number, std::move(result)); }, with_,
      std::move(x), left, std::weak_ptr{world_}, number);
  return to;
}

/// Nobody can say that a guest is gone while a build that was given up still runs.
std::optional<model::error> driver_state::admit(const driver_job& x,
                                                model::hypervisor_id at) const {
  if (manner_of(x).call.empty())
    return std::nullopt;
  if (!link_to(at).connected)
    return model::error{errc::hypervisor,
                        fmt::format("{} is out of reach: {}", name_of(at), link_to(at).reason),
                        "qvmd keeps trying to reach it"};
  if (is_build(x))
    if (auto taken = find_double(x.about, at))
      return taken;
  auto builds_it = [&](auto& it) { return it.second.builds && it.second.domain == x.about.name; };
  if (is_kill(x) && std::ranges::any_of(calls_, builds_it))
    return model::error{
        errc::hypervisor, fmt::format("the hypervisor still builds '{}'", x.about.name), {}};
  return std::nullopt;
}

/// A guest of this name or uuid on the hypervisor that the domain is not on: somebody else's.
std::optional<model::error> driver_state::find_double(const domain_identity& about,
                                                      model::hypervisor_id at) const {
  for (auto other : model::all_hypervisors) {
    auto is_it = [&](auto& x) { return x.first == about.uuid || x.second == about.name; };
    auto& all = link_to(other).active;
    auto found = std::ranges::find_if(all, is_it);
    if (other != at && found != all.end())
      return model::error{errc::vm_error,
                          fmt::format("{} has an active guest of the name or uuid of '{}'",
                                      name_of(other), about.name),
                          fmt::format("'virsh destroy {}' there ends it", found->second)};
  }
  return std::nullopt;
}

void driver_state::follow(const news& x) {
  auto& active = link_to(x.at).active;
  if (x.what == model::guest_event::stopped || x.what == model::guest_event::crashed)
    active.erase(x.uuid);
  else
    active[x.uuid] = x.domain;
}

void driver_state::returned(std::uint64_t number, outcome<driver_result> result) {
  world_->status.finish_call(number);
  auto call = std::move(calls_.extract(number).mapped());
  if (call.measures_memory && result)
    world_->status.measured(result->get<job::measure_free_memory>(), world_->now_us());
  auto& to = call.to;
  if (!to.pending()) // the connection was lost meanwhile, and so was the answer
    return;
  if (result)
    to.deliver(std::move(*result));
  else
    to.deliver(to_caf(result.error()));
}

/// Answers all who wait for this hypervisor; says what that costs.
std::string driver_state::break_off(model::hypervisor_id at, const std::string& why) {
  auto cost = std::vector<std::string>{};
  for (auto& [number, x] : calls_) {
    if (x.name.empty() || x.at != at || !x.to.pending())
      continue;
    cost.push_back(x.domain.empty() ? std::string{x.name}
                                    : fmt::format("{} of '{}'", x.name, x.domain));
    x.to.deliver(
        to_caf({errc::hypervisor,
                fmt::format("{} went out of reach while this was under way: {}", name_of(at), why),
                "qvmd keeps trying to reach it"}));
  }
  return cost.empty() ? why : fmt::format("{}; broken off: {}", why, fmt::join(cost, ", "));
}

// -- the connection ----------------------------------------------------------------------------

caf::result<void> driver_state::connect() {
  auto to = self->make_response_promise<caf::typed_response_promise<void>>();
  waiting_.push_back(to);
  for (auto at : model::all_hypervisors)
    try_connect(at);
  answer_waiting();
  return to;
}

void driver_state::try_connect(model::hypervisor_id at) {
  auto& link = link_to(at);
  if (!with_->find(at) || link.connected || std::exchange(link.connecting, true))
    return;
  off_thread(
      driver_actor{self}, with_->lanes_of(at, lane::host), lane::host, "", open_connection,
      [this, at](const outcome<std::vector<model::guest>>& found) { connected(at, found); }, with_,
      world_, at);
}

void driver_state::connected(model::hypervisor_id at, outcome<std::vector<model::guest>> found) {
  auto& link = link_to(at);
  link.connecting = false;
  link.tried = true;
  if (!found) {
    lose(at, found.error().message());
  } else {
    link = {.connected = true,
            .connecting = false,
            .tried = true,
            .reason = {},
            .back_off = {},
            .active = {}};
    for (auto& x : *found)
      link.active.emplace(x.uuid, x.name);
    spdlog::info("connected to {}; {} domains are active", name_of(at), found->size());
    world_->status.set(at, {.connected = true, .type = {}, .reason = {}});
    if (at == model::hypervisor_id::host)
      learn_pci();
    tell_truth(at, *found);
  }
  answer_waiting();
}

/// To the domains that are on this hypervisor, and to those that should be.
void driver_state::tell_truth(model::hypervisor_id at, const std::vector<model::guest>& found) {
  auto actors = world_->directory.read();
  auto now = world_->look();
  for (auto& who : actors->entries()) {
    auto i = std::ranges::find(found, who->uuid, &model::guest::uuid);
    auto* record = now.find(who->name);
    if (i == found.end() && record && model::hypervisor_of(now.view(), *record) != at)
      continue;
    auto truth = i == found.end() ? model::guest{} : *i;
    truth.at = at;
    ++untold_;
    self->request(who->domain, caf::infinite, atom::reconcile_v, truth)
        .then(
            [this, who] {
              if (agents_)
                self->send(who->domain, agent_news{agents_->contains(who->name)});
              heard();
            },
            [this](const caf::error&) { heard(); });
  }
}

/// One domain more knows the truth, or is no more.
void driver_state::heard() {
  --untold_;
  answer_waiting();
}

void driver_state::answer_waiting() {
  if (untold_ > 0 || !std::ranges::all_of(links_, &link::tried))
    return;
  for (auto& x : std::exchange(waiting_, {}))
    deliver(x);
}

void driver_state::lose(model::hypervisor_id at, const std::string& why) {
  auto& link = link_to(at);
  auto fresh = link.connected || link.reason != why;
  link.connected = false;
  link.reason = why;
  if (at == model::hypervisor_id::host)
    learn_pci();
  auto told = break_off(at, why);
  if (fresh)
    spdlog::error("{} is out of reach: {}", name_of(at), told);
  world_->status.set(at, {.connected = false, .type = {}, .reason = told});
  retry_later(at);
}

void driver_state::retry_later(model::hypervisor_id at) {
  auto& x = world_->settings;
  auto& pause = link_to(at).back_off;
  pause = pause.count() == 0 ? x.reconnect_first : std::min(pause * 2, x.reconnect_most);
  self->delayed_send(self, pause, reconnect{at});
}

/// Until it is known again, whoever wants to know asks.
void driver_state::learn_pci() {
  auto number = ++pci_number_;
  world_->host_pci.update([](auto& x) { x.reset(); });
  if (!link_to(model::hypervisor_id::host).connected || !with_->hypervisor->can().host_news)
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

/// Those that have a guest hear `news_of(record)`.
template <class NewsOf>
void driver_state::tell_running(NewsOf news_of) {
  auto actors = world_->directory.read();
  for (auto& x : world_->system.read()->domains) {
    auto* who = actors->find(x->name.str());
    if (who && world_->board.read(x->qid).xid >= 0)
      self->send(who->domain, news_of(*x));
  }
}

/// Libvirt's own news of a stop may be lost; each domain finds out for itself.
void driver_state::look_at_all() {
  tell_running([](auto& x) { return news{x.name, x.uuid, model::guest_event::stopped}; });
}

/// Also what was so the last time: an agent may have come and gone since, which its domain knows of
/// by its start alone.
void driver_state::agents_are(const std::set<std::string>& names) {
  agents_ = names;
  tell_running([&](auto& x) { return agent_news{names.contains(x.name.str())}; });
}

template <class News>
void driver_state::route(const News& x) {
  auto actors = world_->directory.read();
  if (auto* who = actors->find(x.domain))
    self->send(who->domain, x);
}

} // namespace qubes::actors
