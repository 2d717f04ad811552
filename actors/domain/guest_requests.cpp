// What a guest says of itself (spec/features.md §5, spec/admin-api.md B8).
#include "actors/domain/domain.hpp"
#include "model/change/updates.hpp"
#include "model/guest/features_request.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace qubes::actors {

using model::errc;

void domain_state::carry_out(const ask::request_features& x, const reply& to) {
  auto now = look();
  auto* me = record(now);
  if (!me || !me->is(model::local_vm))
    return to.refuse({errc::vm_error,
                      fmt::format("'{}' runs on another host and has no QubesDB here", who_),
                      {}});
  if (!model::is_running(now.view(), *me))
    return to.refuse({errc::vm_not_running, fmt::format("'{}' is not running", who_), {}});
  auto heard = [this, directory = x.directory, to](const model::entry_list& entries) {
    auto passed_over = std::vector<model::error>{};
    auto request = directory == model::tools_directory
                       ? model::parse_tools_request(entries, &passed_over)
                       : model::parse_features_request(entries, &passed_over);
    if (!request)
      return to.refuse(request.error());
    for (auto& why : passed_over)
      note(spdlog::level::warn, "what it asks for is passed over: {}", why.message());
    change(
        [request = *request](auto& v, auto& me) { return plan_features_request(v, me, request); },
        to);
  };
  look_up(to, work(job::read_qubesdb{x.directory}), heard);
}

/// A guest that runs on an old state of its template knows nothing of the present one.
void domain_state::carry_out(const ask::notify_updates& x, const reply& to) {
  auto note = [this, x, to] { change([x](auto& v, auto& me) { return plan_of(v, me, x); }, to); };
  auto now = look();
  auto* me = record(now);
  if (!me || facts_.xid < 0 || model::read_bool({now.view(), me}, "updateable"))
    return note();
  auto volumes = std::vector<std::string>{};
  for (auto& it : me->volumes)
    if (it.snap_on_start)
      volumes.push_back(it.name);
  unless_outdated(std::move(volumes), to, note);
}

void domain_state::unless_outdated(std::vector<std::string> volumes, const reply& to,
                                   const std::function<void()>& then) {
  if (volumes.empty())
    return then();
  auto at = my_volume(volumes.back());
  if (!at)
    return to.refuse(at.error());
  volumes.pop_back();
  on_disk(*at, disk_job::look_at_volume{}, to,
          [this, volumes, to, then](const model::volume_facts& found) {
            if (found.outdated.value_or(false))
              return to.ok();
            unless_outdated(volumes, to, then);
          });
}

} // namespace qubes::actors
