#include "actors/api/events.hpp"

#include "messages/admin_api.hpp"

#include <algorithm>

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
      [this](atom::closed, connection_id who) { subscribers_.erase(who); },
      [this](file_changed) { dead_.clear(); },
  };
}

/// Events of a removed domain that arrive late are dropped; its removal is told once.
bool events_state::is_of_the_dead(const model::event& x) {
  auto subject = std::ranges::find(x.args, "vm", [](auto& arg) { return arg.first; });
  if (subject == x.args.end())
    return dead_.contains(x.subject);
  if (x.name == "domain-pre-delete")
    return dead_.contains(subject->second);
  if (x.name == "domain-delete")
    return !dead_.insert(subject->second).second;
  if (x.name == "domain-add")
    dead_.erase(subject->second);
  return dead_.contains(x.subject);
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
