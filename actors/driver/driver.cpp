#include "actors/driver/driver.hpp"

#include <spdlog/spdlog.h>

namespace qubes::actors {

driver_actor::behavior_type driver(driver_actor::stateful_pointer<driver_state> self, world_ptr in,
                                   machinery with) {
  return self->state.make(std::move(in), std::move(with));
}

driver_actor::behavior_type driver_state::make(world_ptr in, machinery with) {
  world_ = std::move(in);
  with_ = std::make_shared<machinery>(std::move(with));
  connections_.listen();
  listen();
  return {
      answer_probe,
      [this](const driver_job& x) { return calls_.take(x); },
      [this](atom::launch) { return connections_.connect(); },
      [this](const hypervisor_lost& x) { connections_.lose(x.at, x.why); },
      [this](const news& x) {
        connections_.follow(x);
        route(x);
      },
      [this](const guest_news& x) { route(x); },
      [this](const watch_end& x) { route(x); },
      [this](const agents_now& x) { agents_are(x.names); },
      [this](some_guest_ended) { look_at_all(); },
      [](const completion& run) { run(); },
      [this](const reconnect& x) { connections_.try_again(x.at); },
      [this](atom::hardware) { connections_.learn_pci(); },
  };
}

void driver_state::listen() {
  auto tell = [me = caf::actor_addr{self->address()}](auto... x) {
    if (auto to = caf::actor_cast<driver_actor>(me))
      caf::anon_send(to, std::move(x)...);
  };
  with_->tools->listen(
      {.changed =
           [tell](const std::string& domain, const std::string& path, std::uint64_t held_back) {
             tell(guest_news{domain, path, held_back});
           },
       .ended = [tell](const std::string& domain) { tell(watch_end{domain}); }});
  with_->tools->listen_agents(
      [tell](std::set<std::string> names) { tell(agents_now{std::move(names)}); });
  if (with_->xenstore) {
    auto heard = [tell](const std::string&) { tell(some_guest_ended{}); };
    if (auto done = with_->xenstore->watch("@releaseDomain", "qvmd", heard); !done)
      spdlog::error("no news from XenStore: {}", done.error().message());
  }
}

/// Domains that have a guest hear `news_of(record)`.
template <class NewsOf>
void driver_state::tell_running(NewsOf news_of) {
  auto actors = world_->directory.read();
  auto now = world_->system.read();
  for (auto& x : now->domains) {
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
  connections_.agents_are(names);
  tell_running([&](auto& x) { return agent_news{names.contains(x.name.str())}; });
}

template <class News>
void driver_state::route(const News& x) {
  auto actors = world_->directory.read();
  if (auto* who = actors->find(x.domain))
    self->send(who->domain, x);
}

} // namespace qubes::actors
