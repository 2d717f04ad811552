// What becomes of the answer to a job: its handler gets the job's own result.
#pragma once

#include <type_traits>
#include <utility>

namespace qubes::actors {

/// A job that was asked for, before it is said what becomes of the answer. `Result` is what all
/// jobs of this kind are answered with.
template <class Job, class Result, class Response>
class job_response {
public:
  explicit job_response(Response response) : response_(std::move(response)) {}

  /// `ok` takes a `Job::result`, nothing when that is void.
  template <class Ok, class Bad>
  void then(Ok ok, Bad bad) && {
    std::move(response_).then(
        [ok = std::move(ok)](Result& x) mutable {
          if constexpr (std::is_void_v<typename Job::result>)
            ok();
          else
            ok(x.template get<Job>());
        },
        std::move(bad));
  }

private:
  Response response_;
};

} // namespace qubes::actors
