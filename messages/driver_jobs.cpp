#include "messages/driver_jobs.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes {

namespace {

template <class Job>
std::chrono::seconds patience_of(const Job& x) {
  if constexpr (requires { x.patience; })
    return x.patience;
  else
    return {};
}

} // namespace

const job::manner& manner_of(const driver_job& x) {
  return std::visit([]<class Job>(const Job&) -> const job::manner& { return Job::how; }, x.what);
}

std::string doing_of(const driver_job& x) {
  auto doing = std::string{manner_of(x).shown};
  std::visit(
      [&](const auto& what) {
        if constexpr (requires { what.call.service; })
          doing += ' ' + what.call.service;
      },
      x.what);
  if (!doing.empty() && !x.about.awaited_by.empty())
    doing += " in " + x.about.name;
  return doing;
}

bool may_be_given_up(const driver_job& x, const call_limits& limits) {
  return !manner_of(x).may_begin_late() && limit_of(x, limits) != std::chrono::milliseconds::max();
}

model::error waited_too_long(const driver_job& x) {
  auto& name = manner_of(x).call;
  return {model::errc::hypervisor,
          fmt::format("{} of '{}' was given up, as it had to wait too long", name, x.about.name),
          "it is not done; try again"};
}

std::chrono::milliseconds limit_of(const driver_job& x, const call_limits& limits) {
  using std::chrono::seconds;
  constexpr auto day = seconds{24 * 60 * 60};
  auto most = manner_of(x).limit;
  if (most == nullptr)
    return std::chrono::milliseconds::max();
  auto patience = std::visit([](const auto& what) { return patience_of(what); }, x.what);
  return limits.*most + std::clamp(patience, seconds{0}, day);
}

} // namespace qubes
