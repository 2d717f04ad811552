#include "actors/events.hpp"

#include "messages/admin_api.hpp"

namespace qubes::actors {

events_actor::behavior_type hub(events_actor::stateful_pointer<events_state> self, world_ptr in,
                                frame_sink to) {
  return self->state.make(std::move(in), std::move(to));
}

events_actor::behavior_type events_state::make(world_ptr in, frame_sink to) {
  world_ = std::move(in);
  to_ = std::move(to);
  return {
      [this](const events& news) { pass_on(news); },
      [this](atom::subscribe, connection_id who, const model::audience& x) {
        subscribers_[who] = x;
        to_(who, api::event_frame({"", "connection-established", {}}), false);
      },
      [this](atom::gone, connection_id who) { subscribers_.erase(who); },
      [this](atom::reload) { dead_.clear(); },
  };
}

/// What was under way about a domain when it went is of no use to anybody.
bool events_state::is_of_the_dead(const model::event& x) {
  if (x.name != "domain-add" && x.name != "domain-delete")
    return dead_.contains(x.subject);
  for (auto& [key, name] : x.args)
    if (key == "vm" && x.name == "domain-add")
      dead_.erase(name);
    else if (key == "vm")
      dead_.insert(name);
  return false;
}

void events_state::pass_on(const events& news) {
  auto now = world_->look();
  auto view = now.view();
  for (auto& x : news) {
    if (is_of_the_dead(x) || subscribers_.empty())
      continue;
    auto frame = api::event_frame(x);
    for (auto& [who, audience] : subscribers_)
      if (audience.hears(view, x))
        to_(who, frame, false);
  }
}

} // namespace qubes::actors
