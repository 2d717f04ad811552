// Deadlines of requests, kept in one place. CAF would keep each, and the actor that asked, until
// its time has passed, although the answer came long ago: for hours, where volumes are concerned.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_cast.hpp>
#include <caf/actor_clock.hpp>
#include <caf/actor_system.hpp>
#include <caf/duration.hpp>
#include <caf/error.hpp>
#include <caf/message_id.hpp>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace qubes::actors {

/// For what is waited for as long as it takes.
inline constexpr auto no_deadline = std::chrono::milliseconds::max();

/// Thread-safe.
class deadlines : public std::enable_shared_from_this<deadlines> {
public:
  using moment = caf::actor_clock::time_point;

  static std::shared_ptr<deadlines> open(caf::actor_system& in);

  /// Tells `who` that its request got no answer in time, unless the result is dropped before;
  /// `told` says in any thread what it hears. Null for `no_deadline`.
  std::shared_ptr<void> begin(caf::weak_actor_ptr who, caf::message_id request,
                              std::chrono::milliseconds limit, std::function<caf::error()> told);

  /// Runs `told` when the time has passed, unless the result is dropped before. In any thread.
  std::shared_ptr<void> begin(std::function<void()> told, std::chrono::milliseconds limit);

  static caf::error no_answer();

  std::size_t running() const; ///< for tests

  /// Nothing is overdue any more.
  void end();

private:
  explicit deadlines(caf::actor_system& in) : system_(in) {}

  using table = std::multimap<moment, std::function<void()>>; ///< what is due then

  void look();
  /// When the keeper has to be woken for a deadline, if nothing does so before.
  std::optional<moment> next_look(moment first, moment now);
  void wake(const caf::actor& keeper, const std::optional<moment>& when, moment now);

  caf::actor_system& system_;
  mutable std::mutex guard_;
  table all_;
  moment armed_ = moment::max(); ///< when the keeper looks next
  caf::actor keeper_;
};

/// A request that was sent, before it is said what becomes of the answer.
template <class Handle>
class timed_response {
public:
  timed_response(Handle response, std::shared_ptr<void> deadline)
      : response_(std::move(response)), deadline_(std::move(deadline)) {}

  /// CAF drops both handlers with the answer, and the deadline with them.
  template <class Ok, class Bad>
  void then(Ok ok, Bad bad) && {
    response_.then(std::move(ok), [bad = std::move(bad), deadline = std::move(deadline_)](
                                      caf::error& x) mutable { bad(x); });
  }

private:
  Handle response_;
  std::shared_ptr<void> deadline_;
};

/// As `self->request`; `told` says in any thread what is heard when the time has passed.
template <class Self, class World, class Handle, class... Ts>
auto timed_request_or(std::function<caf::error()> told, Self* self, const World& in,
                      const Handle& whom, std::chrono::milliseconds limit, Ts&&... xs) {
  auto response = self->request(whom, caf::infinite, std::forward<Ts>(xs)...);
  auto deadline = in->deadlines->begin(caf::weak_actor_ptr{self->ctrl()}, response.id(), limit,
                                       std::move(told));
  return timed_response<decltype(response)>{std::move(response), std::move(deadline)};
}

/// That no answer came in time.
template <class Self, class World, class Handle, class... Ts>
auto timed_request(Self* self, const World& in, const Handle& whom, std::chrono::milliseconds limit,
                   Ts&&... xs) {
  return timed_request_or(deadlines::no_answer, self, in, whom, limit, std::forward<Ts>(xs)...);
}

} // namespace qubes::actors
