// Changes of records, on their way to the disk.
#pragma once

#include "actors/common/deadlines.hpp"
#include "actors/common/reply.hpp"
#include "actors/common/world.hpp"
#include "model/change/change.hpp"

#include <memory>
#include <utility>

namespace qubes::actors {

inline model::error not_on_disk_yet() {
  return {model::errc::timed_out, "the change is not on disk yet",
          "it is still being made; see 'qvmctl status'"};
}

/// Has the store write a change. The change is followed to its end, however long that takes: its
/// client hears after a while that it takes long, and nothing else is different. `self` takes
/// completions, or this does not compile.
template <class Self, class Ok, class Bad>
void commit(Self* self, const world_ptr& in, const model::change& what, const reply& to, Ok ok,
            Bad bad) {
  auto is_written = std::make_shared<bool>(false); // before the word that it is overdue is heard
  auto overdue = [whom = caf::weak_actor_ptr{self->ctrl()}, refuse = to.later_refusal(),
                  is_written] {
    if (auto asker = caf::actor_cast<caf::strong_actor_ptr>(whom))
      caf::anon_send(caf::actor_cast<typename Self::actor_hdl>(asker),
                     completion{[refuse, is_written] {
                       if (!*is_written)
                         refuse(not_on_disk_yet());
                     }});
  };
  timed_response{self->request(in->store, caf::infinite, what, to.caller()),
                 in->deadlines->begin(std::move(overdue), in->settings.commit)}
      .then(
          [ok = std::move(ok), is_written](const model::system_ptr& now) {
            *is_written = true;
            ok(now);
          },
          std::move(bad));
}

} // namespace qubes::actors
