#include "messages/disk_jobs.hpp"

namespace qubes {

const disk_job::manner& manner_of(const pool_job& x) {
  return std::visit(
      []<class Job>(const typed_disk_job<Job>&) -> const disk_job::manner& { return Job::how; },
      x.what);
}

cancellation_ptr cancellation_of(const pool_job& x) {
  return std::visit(
      [](const auto& y) -> cancellation_ptr {
        if constexpr (requires { y.what.cancellation; })
          return y.what.cancellation;
        else
          return nullptr;
      },
      x.what);
}

} // namespace qubes
