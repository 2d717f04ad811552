#include "actors/domain/operations.hpp"

namespace qubes::actors {

void domain_operations::remember(const operation_run& x, model::operation_failure why) {
  if (!domain_.is_of_record())
    return;
  auto evicted =
      domain_.world()->history.add(domain_.uuid(), {.what = std::string{x.what},
                                                    .ended_s = domain_.world()->wall_s(),
                                                    .us = domain_.world()->now_us() - x.began_us,
                                                    .steps = x.steps,
                                                    .failure = std::move(why)});
  keep(domain_.uuid());
  if (!evicted.empty())
    keep(evicted);
  caf::anon_send(domain_.world()->driver,
                 driver_job{typed_job{domain_identity{}, job::measure_free_memory{}}});
}

void domain_operations::keep(const std::string& uuid) {
  auto about =
      domain_identity{.name = domain_.who(), .uuid = uuid, .at = model::hypervisor_id::host};
  ask_driver(domain_.self, domain_.world(), std::move(about),
             job::keep_operations{domain_.world()->history.of(uuid)})
      .then([] {},
            [this](const caf::error& x) {
              domain_.note(spdlog::level::warn, "its operations are not kept: {}",
                           from_caf(x).text);
            });
}

operation_run domain_operations::begin(std::string_view what) const {
  auto now_us = domain_.world()->now_us();
  return {.what = what, .began_us = now_us, .step_began_us = now_us};
}

/// An answer that is lost says nothing of the operation, and comes when the actor is no more.
reply domain_operations::remembering(std::string_view what, const reply& to) {
  auto hear = [this, run = begin(what), to](const model::outcome<std::string>& how) {
    if (how)
      remember(run);
    else if (how.error().code != model::errc::internal && !model::is_only_refused(how.error().code))
      remember(run, model::failure_of(how.error()));
    to.give(how);
  };
  return domain_.heard_here(std::move(hear));
}

} // namespace qubes::actors
