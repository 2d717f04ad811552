#include "messages/disk_jobs.hpp"

namespace qubes {

const disk_job::manner& manner_of(const pool_job& x) {
  return std::visit(
      []<class Job>(const typed_disk_job<Job>&) -> const disk_job::manner& { return Job::how; },
      x.what);
}

errand_ptr errand_of(const pool_job& x) {
  return std::visit(
      [](const auto& y) -> errand_ptr {
        if constexpr (requires { y.what.errand; })
          return y.what.errand;
        else
          return nullptr;
      },
      x.what);
}

} // namespace qubes
