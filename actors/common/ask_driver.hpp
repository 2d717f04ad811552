// actors/common: what every actor has: the world it lives in, replies, deadlines, limits, the log.
//
// Asking the driver: the limit is the job's, and the handler gets the job's own result.
#pragma once

#include "actors/common/deadlines.hpp"
#include "actors/common/job_response.hpp"
#include "actors/common/world.hpp"
#include "messages/driver_jobs.hpp"

#include <utility>

namespace qubes::actors {

/// For a request whose caller only wants to know whether it was done.
template <class Response>
class done_response {
public:
  explicit done_response(Response response) : response_(std::move(response)) {}

  template <class Ok, class Bad>
  void then(Ok ok, Bad bad) && {
    std::move(response_).then([ok = std::move(ok)](driver_result&) mutable { ok(); },
                              std::move(bad));
  }

private:
  Response response_;
};

/// A job about a domain by its record, in whichever life.
template <job::is_job Job>
typed_job<Job> about(const model::domain& x, Job what) {
  return {{.name = x.name, .uuid = x.uuid}, std::move(what)};
}

/// A job that is given up before its turn is not done afterwards; one that had its turn may be done
/// yet.
template <class Self>
auto request_job(Self* self, const world_ptr& in, driver_job x) {
  auto limit = limit_of(x, in->settings);
  auto late = std::function{deadlines::no_answer};
  if (may_be_given_up(x, in->settings)) {
    x.turn = std::make_shared<call_turn>();
    late = [turn = x.turn, why = waited_too_long(x)] {
      return turn->give_up() ? to_caf(why) : deadlines::no_answer();
    };
  }
  return timed_request_or(std::move(late), self, in, in->driver, limit, std::move(x));
}

template <class Self, job::is_job Job>
auto ask_driver(Self* self, const world_ptr& in, typed_job<Job> x) {
  auto response = request_job(self, in, std::move(x));
  return job_response<Job, driver_result, decltype(response)>{std::move(response)};
}

template <class Self, job::is_job Job>
auto ask_driver(Self* self, const world_ptr& in, domain_identity about, Job what) {
  return ask_driver(self, in, typed_job<Job>{std::move(about), std::move(what)});
}

template <class Self>
auto ask_driver(Self* self, const world_ptr& in, driver_job x) {
  auto response = request_job(self, in, std::move(x));
  return done_response<decltype(response)>{std::move(response)};
}

} // namespace qubes::actors
