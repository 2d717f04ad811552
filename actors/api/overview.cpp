// Reads whose answer is JSON: for qrexec's policy and for qvmctl.
#include "actors/api/reads.hpp"
#include "actors/common/planning.hpp"

#include "model/base/version.hpp"
#include "model/change/creation.hpp"
#include "model/change/plan.hpp"
#include "model/change/plan_storage.hpp"
#include "model/guest/extension.hpp"
#include "model/policy/permission.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/property.hpp"
#include "model/start/start_outlook.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <variant>

namespace qubes::actors::reads {

using json = nlohmann::ordered_json;
using model::errc;
using model::outcome;

namespace {

json name_or_null(const model::subject& about, std::string_view property) {
  auto text = model::read_text(about, property);
  return text.empty() ? json{} : json(text);
}

/// Names, labels and tags are ASCII; anything else is replaced rather than thrown at.
std::string dump(const json& x) {
  return x.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// What guests run by; null where that is no choice.
json accelerator(const model::host& x) {
  if (!model::row(x.kind).can.emulation)
    return {};
  return x.kvm ? "KVM" : "TCG";
}

const model::label* label_of(const model::subject& about) {
  return about.view.system.find_label(std::string_view{model::read_text(about, "label")});
}

} // namespace

outcome<std::string> system_info(const call& x) {
  auto& v = x.view();
  auto all = json::object();
  for (auto& d : x.now.system->domains) {
    auto about = model::subject{v, d.get()};
    auto* label = label_of(about);
    auto* internal = d->features.find("internal");
    all[d->name.str()] = {
        {"internal", internal ? json(*internal) : json{}},
        {"tags", d->tags},
        {"type", row(d->type).name},
        {"template_for_dispvms", model::read_bool(about, "template_for_dispvms")},
        {"default_dispvm", name_or_null(about, "default_dispvm")},
        {"icon", label ? json("appvm-" + label->name) : json{}},
        {"label", label ? json(label->color) : json{}},
        {"guivm", name_or_null(about, "guivm")},
        {"relayvm", name_or_null(about, "relayvm")},
        {"transport_rpc", name_or_null(about, "transport_rpc")},
        {"power_state", wire_name(model::power_of(v, *d))},
        {"uuid", d->uuid},
    };
  }
  return dump({{"domains", std::move(all)}});
}

outcome<std::string> overview(const call& x) {
  auto& v = x.view();
  auto all = json::array();
  auto policy = x.in.policy.read();
  auto seen = model::sight{*policy, v, x.source};
  for (auto& d : x.now.system->domains) {
    if (!seen.of(*d))
      continue;
    auto about = model::subject{v, d.get()};
    auto facts = v.facts(*d);
    auto* label = label_of(about);
    auto hypervised = d->is(model::qubes_vm);
    all.push_back({
        {"name", d->name.str()},
        {"class", row(d->type).name},
        {"state", wire_name(model::power_of(v, *d))},
        {"label", label ? label->name : ""},
        {"color", label ? label->color : ""},
        {"template", name_or_null(about, "template")},
        {"netvm", name_or_null(about, "netvm")},
        {"provides_network", model::read_bool(about, "provides_network")},
        {"memory", hypervised ? json(model::read_int(about, "memory")) : json{}},
        {"maxmem", hypervised ? json(model::read_int(about, "maxmem")) : json{}},
        {"xid", d->name.is_dom0() ? 0 : facts.xid},
        {"uuid", d->uuid},
        {"ip", name_or_null(about, "ip")},
        {"kind", hypervised ? json(model::kind_of(v, *d).name) : json{}},
        {"going_down", facts.going_down},
        {"degraded", facts.degraded},
    });
  }
  return dump({{"domains", std::move(all)}});
}

outcome<std::string> status(const call& x) {
  auto& board = x.in.status;
  auto& v = x.view();
  auto now_us = x.in.now_us();

  auto states = std::map<std::string_view, int>{};
  for (auto& d : x.now.system->domains)
    ++states[wire_name(model::power_of(v, *d))];

  auto findings = json::array();
  auto found = x.in.findings.read();
  for (auto& f : *found)
    if (f.holds(*x.now.system))
      findings.push_back({{"file", "qubes.xml"}, {"line", f.line}, {"text", f.text}});
  auto templates = x.in.site_templates.read();
  for (auto& it : *templates)
    findings.push_back({{"file", it.file}, {"line", 0}, {"text", it.text}});
  auto overlays = x.in.site_overlays.read();
  for (auto& it : *overlays)
    if (auto why = model::why_unread(it, *x.now.system); !why.empty())
      findings.push_back({{"file", it.file}, {"line", 0}, {"text", std::move(why)}});

  auto policy = x.in.policy.read();
  auto damage = json::array();
  for (auto& f : policy->findings)
    damage.push_back({{"where", f.where}, {"text", f.text}});

  constexpr std::string_view sections[] = {"labels", "pools", "properties", "domains", "document"};
  auto quarantine = json::array();
  for (auto& q : x.now.system->quarantine)
    quarantine.push_back({{"section", sections[static_cast<std::size_t>(q.where)]},
                          {"name", q.name},
                          {"line", q.line},
                          {"reason", q.reason}});

  auto degraded = json::array();
  for (auto& [domain, reason] : board.degraded())
    degraded.push_back({{"domain", domain}, {"reason", reason}});

  auto callers = json::array();
  for (auto& [caller, count] : x.in.budget.by_caller())
    callers.push_back({{"domain", caller}, {"requests", count}});

  auto held_back = json::array();
  for (auto& [domain, news] : board.held_back())
    held_back.push_back({{"domain", domain}, {"news", news}});

  auto restarts = json::array();
  for (auto& [part, r] : board.restarts())
    restarts.push_back({{"part", part},
                        {"count", r.count},
                        {"reason", r.reason},
                        {"last_seconds_ago", (now_us - r.last_us) / 1'000'000}});
  auto clients = json::array();
  for (auto& [netvm, names] : board.clients())
    clients.push_back({{"netvm", netvm}, {"clients", names}});

  auto failed_volumes = json::array();
  for (auto& [volume, reason] : board.failed_volumes())
    failed_volumes.push_back({{"volume", volume}, {"reason", reason}});

  auto files = json::array();
  for (auto& [domain, all] : board.files())
    for (auto& [file, found] : all)
      for (auto& text : found)
        files.push_back({{"domain", domain}, {"file", file}, {"text", text}});

  auto operations = json::array();
  auto show = [&](const std::string& domain, const status_board::activity& a) {
    operations.push_back({{"domain", domain},
                          {"doing", a.doing},
                          {"step", a.step},
                          {"for_ms", (now_us - a.since_us) / 1000}});
  };
  for (auto& [domain, a] : board.activities())
    show(domain, a);
  for (auto& [key, x] : board.transfers())
    show(x.first, x.second);
  constexpr auto moment_us = 500'000;
  for (auto& [number, x] : board.calls())
    if (now_us - x.second.since_us >= moment_us)
      show(x.first, x.second);

  constexpr auto hour_s = 3600;
  auto now_s = x.in.wall_s();
  auto failures = json::array();
  for (auto& [uuid, it] : x.in.history.failures_since(now_s - hour_s))
    if (auto* who = x.now.system->find_uuid(uuid))
      failures.push_back({{"domain", who->name.str()},
                          {"operation", it.what},
                          {"cause", it.failure.cause},
                          {"seconds_ago", std::max<std::int64_t>(now_s - it.ended_s, 0)}});

  auto packages = json::array();
  for (auto& row : model::package_rows)
    if (x.now.machine->packages.contains(row.id))
      packages.push_back(row.name);

  auto store = board.store();
  auto holders = json::array();
  for (auto& [caller, bytes] : store.bytes_by_caller)
    holders.push_back({{"domain", caller}, {"bytes", bytes}});
  auto hypervisor = board.hypervisor(model::hypervisor_id::host);
  auto containers = json{};
  if (auto kind = x.now.machine->containers) {
    auto state = board.hypervisor(model::hypervisor_id::containers);
    containers = {{"uri", x.in.containers_uri},
                  {"connected", state.connected},
                  {"type", model::row(*kind).libvirt},
                  {"reason", state.reason}};
  }
  return dump({
      {"version", model::version()},
      {"uptime_seconds", (now_us - x.in.began_us) / 1'000'000},
      {"connections", x.in.connections ? x.in.connections() : 0},
      {"hypervisor",
       {{"uri", x.in.hypervisor_uri},
        {"connected", hypervisor.connected},
        {"type", model::row(x.now.machine->kind).libvirt},
        {"accelerator", hypervisor.connected ? accelerator(*x.now.machine) : json{}},
        {"reason", hypervisor.reason}}},
      {"containers", std::move(containers)},
      {"store",
       {{"path", x.in.store_path},
        {"generation", store.generation},
        {"batches", store.batches},
        {"bytes", store.bytes},
        {"most_bytes", model::xml::max_bytes},
        {"callers", std::move(holders)},
        {"error", store.error.empty() ? json{} : json(store.error)},
        {"running_on", store.fallback.empty() ? json{} : json(store.fallback)}}},
      {"packages", std::move(packages)},
      {"domains", states},
      {"findings", std::move(findings)},
      {"quarantine", std::move(quarantine)},
      {"policy", {{"rules", policy->rules.size()}, {"findings", std::move(damage)}}},
      {"files", std::move(files)},
      {"degraded", std::move(degraded)},
      {"restarts", std::move(restarts)},
      {"callers", std::move(callers)},
      {"held_back", std::move(held_back)},
      {"clients", std::move(clients)},
      {"failed_volumes", std::move(failed_volumes)},
      {"operations", std::move(operations)},
      {"failures", std::move(failures)},
  });
}

outcome<std::string> method_list(const call&) {
  constexpr std::string_view presences[] = {"none", "required", "optional"};
  constexpr std::string_view targets[] = {"dom0", "domain", "any"};
  auto all = json::array();
  for (auto& m : methods())
    all.push_back({{"name", m.name},
                   {"socket", api::socket_names[static_cast<std::size_t>(m.where)]},
                   {"argument", presences[static_cast<std::size_t>(m.argument)]},
                   {"payload", presences[static_cast<std::size_t>(m.payload)]},
                   {"destination", targets[static_cast<std::size_t>(m.destination)]},
                   {"help", m.help}});
  return dump(all);
}

// -- plans ----------------------------------------------------------------------------------------

namespace {

using maybe_plan = std::optional<model::plan>;

model::plan unless_refused(const auto& rule) {
  auto result = model::plan{};
  if (!rule)
    result.refusal = rule.error();
  return result;
}

// What is known before of orders that do more than change a record, by the rules that they are
// carried out by.

template <class What>
maybe_plan foresee(const call&, const model::domain*, const What&) {
  return std::nullopt;
}

/// Its numbers are those that it may get; no other domain's.
maybe_plan foresee(const call& x, const model::domain*, const ask::create& what) {
  constexpr auto not_given = "00000000-0000-4000-8000-000000000000";
  return plan_creation(x.view(), what.request,
                       {.qid = model::free_qid(*x.now.system, {}).value_or(0), .uuid = not_given});
}

maybe_plan foresee(const call& x, const model::domain*, const ask::remove_pool& what) {
  return plan_remove_pool(x.view(), what.pool);
}

/// Of netvms their actor decides, of what is not up the start under way.
maybe_plan foresee(const call& x, const model::domain* owner, const ask::shutdown& what) {
  auto v = x.view();
  if (!owner || !owner->is(model::qubes_vm) || model::provides_network(v, *owner))
    return std::nullopt;
  auto state = model::power_of(v, *owner);
  if (state != model::power::running && state != model::power::paused)
    return std::nullopt;
  return what.force ? model::plan{} : unless_refused(model::check_shutdown(v, *owner, state));
}

maybe_plan foresee(const call& x, const model::domain* owner, const ask::resize_volume& what) {
  auto* it = owner ? owner->find_volume(what.volume) : nullptr;
  if (!it)
    return std::nullopt;
  auto bytes =
      model::parse_new_size(x.view(), *owner, *it, what.size, model::power_of(x.view(), *owner));
  return bytes ? plan_set_volume_size(x.view(), *owner, it->name, *bytes) : unless_refused(bytes);
}

} // namespace

/// What an order would change, by the planners that carry it out.
outcome<std::string> plan(const call& x) {
  auto inner = x.request;
  auto plus = inner.argument.find('+');
  inner.method = inner.argument.substr(0, plus);
  inner.argument = plus == std::string::npos ? std::string{} : inner.argument.substr(plus + 1);
  auto fine = check(inner, api::socket::admin, x.now);
  if (!fine)
    return tl::unexpected{fine.error()};
  if (auto may = model::permit(inner.method, inner.argument, x.source); !may)
    return tl::unexpected{may.error()};
  auto inner_call = call{inner, x.now, x.in, x.source, x.destination};
  auto& handler = fine->row->handler;
  if (std::holds_alternative<read_handler>(handler) || std::holds_alternative<subscription>(handler)
      || std::holds_alternative<sampling>(handler))
    return model::fail(errc::protocol, fmt::format("{} changes nothing", inner.method));
  auto [what, to] = make_order(*fine->row, inner_call);
  if (!what)
    return tl::unexpected{what.error()};
  auto* owner = to.empty() ? nullptr : x.now.find(to);
  auto planned = plan_of(x.view(), owner, *what);
  if (!planned)
    planned = std::visit([&](const auto& y) { return foresee(x, owner, y); }, what->what);
  if (!planned)
    return model::fail(errc::protocol, "this method changes no record; it has no plan");
  auto result = model::with_consequences(x.view(), std::move(*planned));
  if (result.refusal)
    return tl::unexpected{*result.refusal};
  if (auto applied = model::apply(*x.now.system, *x.now.machine, result.what); !applied)
    return tl::unexpected{applied.error()};
  return model::print(*x.now.system, result.what);
}

} // namespace qubes::actors::reads
