// Blocking work, away from the actor that wants it done.
#pragma once

#include "drivers/lanes.hpp"
#include "messages/actors.hpp"

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace qubes::actors {

/// Runs `work(args...)` on a lane, then `then(result)` in the actor, if it still lives. `work`
/// captures nothing and takes no pointers: an actor's state is not there for other threads.
template <class Actor, class Work, class Then, class... Args>
void off_thread(const Actor& self, drivers::executor& lanes, drivers::lane where, std::string key,
                Work work, Then then, Args... args) {
  static_assert(std::is_empty_v<Work> || std::is_function_v<std::remove_pointer_t<Work>>,
                "work on a lane captures nothing");
  static_assert((... && !std::is_pointer_v<Args>), "what travels to a lane is owned there");
  lanes.post(where, std::move(key),
             [self, work, then = std::move(then), args = std::tuple{std::move(args)...}] {
               caf::anon_send(self, completion{[then, result = std::apply(work, args)]() mutable {
                                then(std::move(result));
                              }});
             });
}

} // namespace qubes::actors
