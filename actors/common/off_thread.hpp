// Blocking work, away from the actor that wants it done.
#pragma once

#include "drivers/io/lanes.hpp"
#include "messages/actors.hpp"

#include <exception>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace qubes::actors {

template <class T>
struct is_outcome : std::false_type {};
template <class T>
struct is_outcome<model::outcome<T>> : std::true_type {};

/// What `work(args...)` found; an exception that it let go becomes its refusal.
template <class Work, class Args>
auto outcome_of(Work work, const Args& args) -> decltype(std::apply(work, args)) {
  try {
    return std::apply(work, args);
  } catch (const std::exception& x) {
    return model::fail(model::errc::general, std::string{"it could not be done: "} + x.what());
  }
}

/// Runs `work(args...)` on a lane, then `then(outcome)` in the actor, if it still lives. `work`
/// captures nothing and takes no pointers: an actor's state is not there for other threads. Neither
/// an exception in `work` nor a host without threads costs more than this one piece of work.
template <class Actor, class Work, class Then, class... Args>
void off_thread(const Actor& self, drivers::executor& lanes, drivers::lane where, std::string key,
                Work work, Then then, Args... args) {
  static_assert(std::is_empty_v<Work> || std::is_function_v<std::remove_pointer_t<Work>>,
                "work on a lane captures nothing");
  static_assert((... && !std::is_pointer_v<Args>), "what travels to a lane is owned there");
  using result = std::invoke_result_t<Work&, const Args&...>;
  static_assert(is_outcome<result>::value, "work on a lane says whether it was done");
  auto tell = [self, then = std::move(then)](result x) {
    caf::anon_send(self, completion{[then, x = std::move(x)]() mutable { then(std::move(x)); }});
  };
  auto job = [tell, work, args = std::tuple{std::move(args)...}] { tell(outcome_of(work, args)); };
  if (!lanes.post(where, std::move(key), std::move(job)))
    tell(model::fail(model::errc::general, "the host gives no more threads"));
}

} // namespace qubes::actors
