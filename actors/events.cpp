#include "actors/events.hpp"

#include "messages/admin_api.hpp"

namespace qubes::actors {

events_actor::behavior_type hub(events_actor::stateful_pointer<events_state> self, frame_sink to) {
  return self->state.make(std::move(to));
}

events_actor::behavior_type events_state::make(frame_sink to) {
  to_ = std::move(to);
  return {
      [this](const events& news) { pass_on(news); },
      [this](atom::subscribe, connection_id who, const std::string& of) {
        subscribers_[who] = of;
        to_(who, api::event_frame({"", "connection-established", {}}), false);
      },
      [this](atom::gone, connection_id who) { subscribers_.erase(who); },
  };
}

void events_state::pass_on(const events& news) {
  if (subscribers_.empty())
    return;
  for (auto& x : news) {
    auto frame = api::event_frame(x);
    for (auto& [who, of] : subscribers_)
      if (of.empty() || of == x.subject)
        to_(who, frame, false);
  }
}

} // namespace qubes::actors
