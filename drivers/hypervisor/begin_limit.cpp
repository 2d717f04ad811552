#include "drivers/hypervisor/begin_limit.hpp"

#include <utility>

namespace qubes::drivers {

namespace {

thread_local begin_limit* innermost = nullptr;

} // namespace

model::error no_longer_wanted() {
  return {model::errc::general, "it was given up before it could begin", {}};
}

begin_limit::begin_limit(time_left left, std::function<bool()> may_begin)
    : left_(std::move(left)), may_begin_(std::move(may_begin)),
      outer_(std::exchange(innermost, this)) {
  // nop
}

begin_limit::~begin_limit() {
  innermost = outer_;
}

std::chrono::milliseconds begin_limit::left() {
  return innermost == nullptr || innermost->begun_ ? unlimited : innermost->left_();
}

bool begin_limit::may_go_on() {
  if (left() > std::chrono::milliseconds::zero())
    return true;
  innermost->given_up_ = true;
  return false;
}

bool begin_limit::begin() {
  if (!may_go_on())
    return false;
  if (innermost == nullptr || innermost->begun_)
    return true;
  innermost->begun_ = innermost->may_begin_();
  innermost->given_up_ = !innermost->begun_;
  return innermost->begun_;
}

} // namespace qubes::drivers
