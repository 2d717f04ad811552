// Asking storage: how long is the job's, and the handler gets the job's own result.
#pragma once

#include "actors/common/deadlines.hpp"
#include "actors/common/job_response.hpp"
#include "actors/common/world.hpp"
#include "messages/disk_jobs.hpp"

#include <utility>

namespace qubes::actors {

template <class Self, disk_job::is_job Job>
auto ask_storage(Self* self, const world_ptr& in, typename Job::about about, Job what) {
  auto response =
      timed_request(self, in, in->storage, in->settings.*Job::how.waits,
                    storage_job{typed_disk_job<Job>{std::move(about), std::move(what)}});
  return job_response<Job, storage_result, decltype(response)>{std::move(response)};
}

} // namespace qubes::actors
