#include "actors/driver/calls.hpp"

#include "actors/common/off_thread.hpp"
#include "actors/driver/connections.hpp"
#include "actors/driver/jobs.hpp"
#include "drivers/hypervisor/begin_limit.hpp"
#include "model/base/name.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/reachable.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <type_traits>
#include <variant>
#include <vector>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

/// Does the job, with its own handler.
outcome<driver_result> carry_out(machinery& with, const driver_job& x) {
  return std::visit(
      [&]<class Job>(const Job& what) {
        auto done = run(with, x.about, what);
        static_assert(std::is_same_v<decltype(done), outcome<typename Job::result>>);
        return std::move(done).map([]<class... Found>(Found&&... found) {
          return driver_result::of<Job>(std::forward<Found>(found)...);
        });
      },
      x.what);
}

/// Refused at once where the agent cannot hear: a caller would wait for nothing.
outcome<driver_result> carry_out_by_agent(machinery& with, const snapshot& now,
                                          const driver_job& x) {
  auto& name = x.about.name;
  auto* guest = now.find(name);
  if (!guest) // the name may be a stub domain's
    guest = now.find(model::guest_of_stub(name));
  if (!guest || guest->is(model::admin_vm))
    return carry_out(with, x);
  if (auto awake = model::check_awake(now.view(), *guest); !awake)
    return tl::unexpected{std::move(awake.error())};
  if (with.of(x.about).can().agent && !with.tools->agent_connected(name))
    return tl::unexpected{model::no_agent(name)};
  return carry_out(with, x);
}

bool is_build(const driver_job& x) {
  return std::holds_alternative<job::create_guest>(x.what);
}

bool is_kill(const driver_job& x) {
  return std::holds_alternative<job::kill_guest>(x.what)
         || std::holds_alternative<job::take_back_guest>(x.what);
}

} // namespace

/// A domain that is not known any more is on the host's own hypervisor.
model::hypervisor_id driver_calls::place_of(const domain_identity& x) const {
  if (x.at)
    return *x.at;
  auto now = driver_.world()->look();
  auto* record = now.find(x.name);
  return record ? model::hypervisor_of(now.view(), *record) : model::hypervisor_id::host;
}

caf::result<driver_result> driver_calls::take(const driver_job& what) {
  auto x = what;
  auto at = place_of(x.about);
  x.about.at = at;
  auto& how = manner_of(x);
  auto to = driver_.self->make_response_promise<caf::typed_response_promise<driver_result>>();
  if (auto refused = admit(x, at)) {
    to.deliver(to_caf(std::move(*refused)));
    return to;
  }
  auto number = ++last_;
  calls_.emplace(number,
                 call{.name = how.call,
                      .domain = x.about.name,
                      .at = at,
                      .builds = is_build(x),
                      .measures_memory = std::holds_alternative<job::measure_free_memory>(x.what),
                      .turn = x.turn,
                      .to = to});
  if (auto doing = doing_of(x); !doing.empty())
    driver_.world()->status.begin_call(
        number, x.about.awaited_by.empty() ? x.about.name : x.about.awaited_by,
        {std::move(doing), "in line", driver_.world()->now_us()});
  post(number, std::move(x));
  return to;
}

void driver_calls::post(std::uint64_t number, driver_job x) {
  auto at = *x.about.at;
  auto& how = manner_of(x);
  auto most = limit_of(x, driver_.world()->settings);
  auto limited = may_be_given_up(x, driver_.world()->settings);
  auto left = [clock = &driver_.self->clock(), most, asked = driver_.self->clock().now(), limited] {
    return limited ? std::chrono::ceil<std::chrono::milliseconds>(asked + most - clock->now())
                   : drivers::begin_limit::unlimited;
  };
  auto turn = fmt::format("{}{}", x.about.name, how.turn);
  off_thread(
      driver_actor{driver_.self}, driver_.with()->lanes_of(at, how.where), how.where,
      std::move(turn),
      [](const std::shared_ptr<machinery>& with, const driver_job& x, const auto& left,
         const std::weak_ptr<world>& of, std::uint64_t number) -> outcome<driver_result> {
        auto limit = drivers::begin_limit{left, [&x] { return !x.turn || x.turn->begin(); }};
        if (!drivers::begin_limit::may_go_on())
          return tl::unexpected{waited_too_long(x)};
        auto in = of.lock(); // a call may outlive its daemon
        if (in)
          in->status.go_on_with_call(number, "under way");
        auto done = in && manner_of(x).by_agent ? carry_out_by_agent(*with, in->look(), x)
                                                : carry_out(*with, x);
        if (!done && limit.given_up())
          return tl::unexpected{waited_too_long(x)};
        return done;
      },
      [this, number](outcome<driver_result> result) { returned(number, std::move(result)); },
      driver_.with(), std::move(x), left, std::weak_ptr{driver_.world()}, number);
}

/// A guest is not said to be gone while a build that was given up still runs.
std::optional<model::error> driver_calls::admit(const driver_job& x,
                                                model::hypervisor_id at) const {
  if (manner_of(x).call.empty())
    return std::nullopt;
  if (auto lost = connections_.why_out_of_reach(at))
    return lost;
  if (is_build(x))
    if (auto taken = connections_.find_double(x.about, at))
      return taken;
  auto builds_it = [&](auto& it) { return it.second.builds && it.second.domain == x.about.name; };
  if (is_kill(x) && std::ranges::any_of(calls_, builds_it))
    return model::error{
        errc::hypervisor, fmt::format("the hypervisor still builds '{}'", x.about.name), {}};
  return std::nullopt;
}

void driver_calls::returned(std::uint64_t number, outcome<driver_result> result) {
  driver_.world()->status.finish_call(number);
  auto call = std::move(calls_.extract(number).mapped());
  if (call.measures_memory && result)
    driver_.world()->status.measured(result->get<job::measure_free_memory>(),
                                     driver_.world()->now_us());
  auto& to = call.to;
  if (!to.pending()) // the connection was lost meanwhile, and so was the answer
    return;
  if (result)
    to.deliver(std::move(*result));
  else
    to.deliver(to_caf(result.error()));
}

std::string driver_calls::break_off(model::hypervisor_id at, const std::string& why) {
  auto cost = std::vector<std::string>{};
  for (auto& [number, x] : calls_) {
    if (x.name.empty() || x.at != at || !x.to.pending())
      continue;
    cost.push_back(x.domain.empty() ? std::string{x.name}
                                    : fmt::format("{} of '{}'", x.name, x.domain));
    auto may_be_done = !x.turn || !x.turn->give_up();
    x.to.deliver(to_caf(
        {errc::hypervisor,
         fmt::format("{} went out of reach {}: {}", name_of(at),
                     may_be_done ? "while this was under way" : "before this could be done", why),
         "qvmd keeps trying to reach it"}));
  }
  return cost.empty() ? why : fmt::format("{}; broken off: {}", why, fmt::join(cost, ", "));
}

} // namespace qubes::actors
