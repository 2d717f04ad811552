#include "actors/common/deadlines.hpp"

#include "messages/actors.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>

#include <algorithm>
#include <vector>

namespace qubes::actors {

namespace {

/// Timers of CAF cannot be taken back, and those for an hour must not pile up.
constexpr auto farthest = std::chrono::seconds{60};

} // namespace

std::shared_ptr<deadlines> deadlines::open(caf::actor_system& in) {
  auto result = std::shared_ptr<deadlines>{new deadlines{in}};
  result->keeper_ = in.spawn([of = std::weak_ptr{result}](caf::event_based_actor*) {
    return caf::behavior{[of](atom::tick) {
      if (auto all = of.lock())
        all->look();
    }};
  });
  return result;
}

caf::error deadlines::no_answer() {
  return caf::sec::request_timeout;
}

std::shared_ptr<void> deadlines::begin(caf::weak_actor_ptr who, caf::message_id request,
                                       std::chrono::milliseconds limit,
                                       std::function<caf::error()> told) {
  return begin(
      [who = std::move(who), request, told = std::move(told)] {
        if (auto asked = caf::actor_cast<caf::strong_actor_ptr>(who))
          asked->get()->eq_impl(request, asked, nullptr, told());
      },
      limit);
}

std::shared_ptr<void> deadlines::begin(std::function<void()> told,
                                       std::chrono::milliseconds limit) {
  if (limit == no_deadline)
    return nullptr;
  auto now = system_.clock().now();
  auto lock = std::unique_lock{guard_};
  auto place = all_.emplace(now + limit, std::move(told));
  auto when = next_look(place->first, now);
  auto keeper = when ? keeper_ : caf::actor{};
  lock.unlock();
  wake(keeper, when, now);
  return {nullptr, [me = shared_from_this(), place](void*) {
            auto hold = std::lock_guard{me->guard_};
            me->all_.erase(place);
          }};
}

std::size_t deadlines::running() const {
  auto hold = std::lock_guard{guard_};
  return all_.size();
}

/// Requests that were told stay until their handlers are dropped: that is what ends them.
void deadlines::look() {
  auto now = system_.clock().now();
  auto overdue = std::vector<std::function<void()>>{};
  auto lock = std::unique_lock{guard_};
  auto first = all_.upper_bound(now);
  for (auto i = all_.begin(); i != first; ++i)
    overdue.push_back(std::exchange(i->second, {}));
  auto when = std::optional<moment>{};
  if (armed_ <= now) {
    armed_ = moment::max();
    if (first != all_.end())
      when = next_look(first->first, now);
  }
  auto keeper = keeper_;
  lock.unlock();
  wake(keeper, when, now);
  for (auto& told : overdue)
    if (told)
      told();
}

std::optional<deadlines::moment> deadlines::next_look(moment first, moment now) {
  auto next = std::min(first, moment{now + farthest});
  if (next >= armed_)
    return std::nullopt;
  armed_ = next;
  return next;
}

/// The clock may make its caller wait, and drop an actor meanwhile: not under our lock.
void deadlines::wake(const caf::actor& keeper, const std::optional<moment>& when, moment now) {
  if (when && keeper)
    caf::delayed_anon_send(keeper, *when - now, atom::tick_v);
}

void deadlines::end() {
  auto hold = std::lock_guard{guard_};
  caf::anon_send_exit(keeper_, caf::exit_reason::user_shutdown);
  keeper_ = {};
}

} // namespace qubes::actors
