// Why a domain is as it is: what it waits for, what a start would meet, how its last operations
// went. From what is known already: the answer waits for nothing.
#include "actors/api/reads.hpp"

#include "model/base/unfinished.hpp"
#include "model/policy/permission.hpp"
#include "model/property/kind_of.hpp"
#include "model/start/start_outlook.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace qubes::actors::reads {

using json = nlohmann::ordered_json;
using model::errc;
using model::outcome;

namespace {

double milliseconds(std::int64_t us) {
  return static_cast<double>(us) / 1000;
}

json text_or_null(const std::string& x) {
  return x.empty() ? json{} : json(x);
}

// -- now ------------------------------------------------------------------------------------------

json waits_of(const world& in, const std::string& who) {
  auto now_us = in.now_us();
  auto result = json::array();
  auto add = [&](const status_board::activity& x) {
    result.push_back(
        {{"doing", x.doing}, {"step", x.step}, {"for_ms", milliseconds(now_us - x.since_us)}});
  };
  auto activities = in.status.activities();
  if (auto mine = activities.find(who); mine != activities.end())
    add(mine->second);
  for (auto& [number, x] : in.status.calls())
    if (x.first == who)
      add(x.second);
  return result;
}

json findings_of(const call& x) {
  auto& who = x.destination.name.str();
  auto result = json::array();
  if (auto* mark = x.destination.features.find(model::unfinished); mark && !mark->empty())
    result.push_back({{"file", "qubes.xml"},
                      {"text", fmt::format("half made: {}; the same command goes on with it, "
                                           "'qvmctl remove {}' removes it",
                                           model::purpose_of(*mark), who)}});
  auto files = x.in.status.files();
  for (auto& [file, all] : files[who])
    for (auto& text : all)
      result.push_back({{"file", file}, {"text", text}});
  auto findings = x.in.findings.read();
  for (auto& it : *findings)
    if (it.domain == who && it.holds(*x.now.system))
      result.push_back({{"file", "qubes.xml"}, {"text", it.text}});
  auto overlays = x.in.site_overlays.read();
  for (auto& it : *overlays)
    if (it.domain == who)
      if (auto why = model::why_unread(it, *x.now.system); !why.empty())
        result.push_back({{"file", it.file}, {"text", std::move(why)}});
  if (!x.destination.is(model::qubes_vm))
    return result;
  auto templates = x.in.site_templates.read();
  for (auto& it : *templates)
    if (it.domain.empty() || it.domain == who)
      result.push_back({{"file", it.file}, {"text", it.text}});
  return result;
}

// -- a start --------------------------------------------------------------------------------------

model::start_facts facts_of(const call& x) {
  auto& in = x.in;
  auto memory = in.status.memory();
  auto link = in.status.hypervisor(model::hypervisor_of(x.view(), x.destination));
  auto result = model::start_facts{
      .unreachable = link.connected ? std::string{} : link.reason,
      .free_bytes = memory.bytes,
      .free_age_s = (in.now_us() - memory.at_us) / 1'000'000,
      .host_pci = in.host_pci.copy(),
      .failed_volumes = in.status.failed_volumes(),
      .holder = [&in](std::string_view kind, const std::string& backend, const std::string& port) {
        return in.holders.holder({std::string{kind}, backend, port});
      }};
  for (auto& volume : x.destination.volumes)
    if (auto pool = in.volumes.last_known(volume.pool); pool && pool->size && pool->usage)
      result.pool_room[volume.pool] = *pool->size - std::min(*pool->size, *pool->usage);
  return result;
}

/// Of the domains that are named only those that the caller may see.
json start_of(const call& x, const model::sight& seen) {
  auto& v = x.view();
  auto checks = json::array();
  auto all = model::start_outlook(v, x.destination, facts_of(x));
  for (auto& it : all) {
    auto names = std::vector<std::string>{};
    for (auto& name : it.involved)
      if (auto* other = v.system.find(name); other && seen.of(*other))
        names.push_back(name);
    checks.push_back({{"about", it.about},
                      {"prospect", name_of(it.how)},
                      {"text", text_or_null(it.text)},
                      {"remedy", text_or_null(it.remedy)},
                      {"domains", std::move(names)}});
  }
  auto* first = model::first_shortfall(all);
  return {{"shortfall", first ? json{{"about", first->about},
                                     {"text", first->text},
                                     {"remedy", text_or_null(first->remedy)}}
                              : json{}},
          {"checks", std::move(checks)}};
}

// -- before ---------------------------------------------------------------------------------------

json operation_json(const model::operation& x, std::int64_t now_s, bool latest) {
  auto steps = json::array();
  for (auto& step : x.steps)
    steps.push_back({{"name", step.name}, {"ms", milliseconds(step.us)}});
  auto failure = json{};
  if (x.failed())
    failure = {{"step", text_or_null(x.failure.step)},
               {"exception", x.failure.exception},
               {"cause", x.failure.cause},
               {"remedy", text_or_null(x.failure.remedy)}};
  return {{"operation", x.what},
          {"ended", x.ended_s},
          {"seconds_ago", std::max<std::int64_t>(now_s - x.ended_s, 0)},
          {"latest", latest},
          {"total_ms", milliseconds(x.us)},
          {"failure", std::move(failure)},
          {"steps", std::move(steps)}};
}

/// Operations that failed come first, and of each group the last one.
json operations_of(const call& x) {
  auto all = x.in.history.of(x.destination.uuid);
  auto failed = json::array();
  auto others = json::array();
  for (auto it = all.rbegin(); it != all.rend(); ++it)
    (it->failed() ? failed : others)
        .push_back(operation_json(*it, x.in.wall_s(), it == all.rbegin()));
  failed.insert(failed.end(), others.begin(), others.end());
  return failed;
}

json logs_of(const call& x) {
  auto& who = x.destination.name.str();
  auto result = json::array({fmt::format("journalctl -t qvmd QVMD_DOMAIN={}", who)});
  if (x.destination.is(model::qubes_vm) && model::abilities_of(x.view(), x.destination).xenstore) {
    result.push_back(fmt::format("/var/log/xen/console/guest-{}.log", who));
    result.push_back(fmt::format("/var/log/libvirt/libxl/{}.log", who));
  }
  return result;
}

/// A later request hears of the memory as it is now.
void measure_memory(const world& in) {
  constexpr auto fresh_us = 1'000'000;
  if (in.now_us() - in.status.memory().at_us >= fresh_us)
    caf::anon_send(in.driver, driver_job{typed_job{domain_identity{}, job::measure_free_memory{}}});
}

} // namespace

outcome<std::string> why(const call& x) {
  auto& who = x.destination;
  auto policy = x.in.policy.read();
  auto seen = model::sight{*policy, x.view(), x.source};
  if (!seen.of(who))
    return model::fail(errc::permission_denied,
                       fmt::format("'{}' may not see '{}'", x.source.name.str(), who.name.str()),
                       "qrexec's policy for admin.vm.List says who may");
  auto state = model::power_of(x.view(), who);
  auto degraded = x.in.status.degraded();
  auto trouble = degraded.find(who.name);
  auto result = json{{"domain", who.name.str()},
                     {"uuid", who.uuid},
                     {"state", wire_name(state)},
                     {"degraded", trouble == degraded.end() ? json{} : json(trouble->second)},
                     {"waits", waits_of(x.in, who.name)},
                     {"start", state == model::power::halted ? start_of(x, seen) : json{}},
                     {"operations", operations_of(x)},
                     {"findings", findings_of(x)},
                     {"logs", logs_of(x)}};
  measure_memory(x.in);
  return result.dump(-1, ' ', false, json::error_handler_t::replace);
}

} // namespace qubes::actors::reads
