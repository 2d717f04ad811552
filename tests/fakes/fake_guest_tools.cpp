#include "tests/fakes/fake_guest_tools.hpp"

#include "model/base/name.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

namespace qubes::drivers {

using model::errc;
using model::fail;
using guard = std::lock_guard<std::mutex>;

void fake_guest_tools::make(const std::string& name, base& in, const model::qubesdb_edit& x) {
  if (x.text)
    in.entries[x.path] = *x.text;
  else
    std::erase_if(in.entries, [&](auto& it) {
      return it.first == x.path || (x.path.ends_with('/') && it.first.starts_with(x.path));
    });
  if (heard_.changed && in.watched.contains(x.path))
    heard_.changed(name, x.path, 0);
}

outcome<fake_guest_tools::base*> fake_guest_tools::find(const std::string& name) {
  auto i = bases_.find(name);
  if (i == bases_.end())
    return fail(errc::general, fmt::format("'{}' has no QubesDB", name));
  if (i->second.broken)
    return fail(errc::timed_out, fmt::format("QubesDB of '{}' does not answer", name));
  return &i->second;
}

outcome<void> fake_guest_tools::open_qubesdb(const std::string& name, std::int32_t,
                                             const model::qubesdb_edits& initial) {
  {
    auto lock = guard{mutex_};
    bases_[name] = {};
  }
  return write_qubesdb(name, initial);
}

outcome<void> fake_guest_tools::write_qubesdb(const std::string& name,
                                              const model::qubesdb_edits& all) {
  auto lock = guard{mutex_};
  return find(name).map([&](base* found) {
    for (auto& x : all) {
      found->written.push_back(x);
      make(name, *found, x);
    }
  });
}

outcome<entries> fake_guest_tools::read_qubesdb(const std::string& name,
                                                const std::string& prefix) {
  auto lock = guard{mutex_};
  return find(name).map([&](base* found) {
    auto result = entries{};
    for (auto& x : found->entries)
      if (x.first.starts_with(prefix))
        result.push_back(x);
    return result;
  });
}

void fake_guest_tools::listen(qubesdb_listener heard) {
  auto lock = guard{mutex_};
  heard_ = std::move(heard);
}

outcome<void> fake_guest_tools::watch_qubesdb(const std::string& name,
                                              const std::vector<std::string>& paths) {
  auto lock = guard{mutex_};
  return find(name).map([&](base* found) { found->watched = {paths.begin(), paths.end()}; });
}

outcome<void> fake_guest_tools::mark_service(const std::string& service, bool on) {
  auto lock = guard{mutex_};
  if (on)
    services_.insert(service);
  else
    services_.erase(service);
  return {};
}

outcome<void> fake_guest_tools::start_agent(const qrexec_agent& x) {
  auto lock = guard{mutex_};
  if (lost_agents_.contains(x.name))
    return model::fail(model::errc::vm_error, "no agent of '" + x.name + "'");
  agents_.push_back(x);
  if (x.wait)
    users_[x.name] = x.user;
  tell_agents();
  return {};
}

std::vector<qrexec_agent> fake_guest_tools::agents() const {
  auto lock = guard{mutex_};
  return agents_;
}

void fake_guest_tools::lose_agent(const std::string& name) {
  auto lock = guard{mutex_};
  lost_agents_.insert(name);
}

namespace {

/// What guests know of a service.
struct known_service {
  std::string_view name; ///< the service without its argument
  bool root;             ///< runs as root; else as the user that the agent was told
  bool reads;            ///< reads its standard input
  bool in_stub_domain = false;
};

constexpr known_service known_services[]{
    {"qubes.ResizeDisk", true, true},
    {"qubes.SuspendPre", true, false},
    {"qubes.SuspendPost", true, false},
    {"qubes.SuspendPreAll", true, false},
    {"qubes.SuspendPostAll", true, false},
    {"qubes.WaitForNetworkUplink", true, false},
    {"qubes.WaitForRunningSystem", false, false},
    {"qubes.WaitForSession", false, false},
    {"qubes.BackupPassphrase", false, false},
    {"qubes.SetAudioVM", true, false, true},
    {"qubes.UpdateAppMenusFor", false, false},
    {"qubes.RemoveAppMenusFor", false, false},
    {"qubes.VMShell", false, true},
    {"qubes.USBAttach", true, true},
    {"qubes.USBDetach", true, true},
    {"qvc.WebcamAttach", true, true},
    {"qvc.WebcamDetach", true, false},
    {"qubes.AudioInputEnable", false, false},
    {"qubes.AudioInputDisable", false, false},
};

/// Why no guest would take the service; "" when one would.
std::string why_not(const fake_guest_tools::call& x, const std::string& user) {
  auto name = std::string_view{x.what.service}.substr(0, x.what.service.find('+'));
  auto it = std::ranges::find(known_services, name, &known_service::name);
  if (it == std::end(known_services))
    return "no such service";
  if (x.what.user != (it->root ? "root" : user))
    return fmt::format("it runs as '{}'", it->root ? "root" : user);
  if (x.what.input.empty() == it->reads)
    return it->reads ? "it reads its standard input" : "it has no standard input";
  if (name.ends_with("Attach") != x.what.needs.has_value())
    return "the policy forbids what it does in turn";
  if ((model::guest_of_stub(x.domain) != x.domain) != it->in_stub_domain)
    return "it runs elsewhere";
  return {};
}

} // namespace

outcome<std::optional<std::string>> fake_guest_tools::run_service(const std::string& domain,
                                                                  const model::service_call& x,
                                                                  std::chrono::seconds,
                                                                  std::stop_token stop) {
  auto script = service_script{};
  auto now = call{domain, x};
  {
    auto lock = guard{mutex_};
    calls_.push_back(now);
    auto user = users_.find(domain);
    if (user == users_.end())
      return fail(errc::vm_error, fmt::format("no agent of '{}' is connected", domain));
    if (auto why = why_not(now, user->second); !why.empty()) {
      complaints_.push_back(fmt::format("service {} in '{}' as '{}', input '{}': {}", x.service,
                                        domain, x.user, x.input, why));
      return fail(errc::vm_error, complaints_.back());
    }
    script = services_say_;
  }
  if (stop.stop_requested())
    return fail(errc::general, "it was broken off");
  if (!script)
    return std::optional{std::string{}};
  return script(now).map([](auto said) { return std::optional{std::move(said)}; });
}

/// The qrexec client speaks to a domain that runs.
outcome<void> fake_guest_tools::sync_menus(const std::string& domain, std::chrono::seconds) {
  auto lock = guard{mutex_};
  if (!users_.contains(domain))
    return fail(errc::general, fmt::format("'{}' cannot be asked for its applications", domain));
  synced_.push_back(domain);
  return {};
}

std::vector<std::string> fake_guest_tools::synced() const {
  auto lock = guard{mutex_};
  return synced_;
}

std::vector<fake_guest_tools::call> fake_guest_tools::calls() const {
  auto lock = guard{mutex_};
  return calls_;
}

void fake_guest_tools::set_services(service_script x) {
  auto lock = guard{mutex_};
  services_say_ = std::move(x);
}

std::vector<std::string> fake_guest_tools::complaints() const {
  auto lock = guard{mutex_};
  return complaints_;
}

bool fake_guest_tools::agent_connected(const std::string& name) {
  auto lock = guard{mutex_};
  return users_.contains(name);
}

void fake_guest_tools::close(const std::string& name) {
  auto lock = guard{mutex_};
  bases_.erase(name);
  users_.erase(name);
  users_.erase(model::stub_domain_of(name));
  tell_agents();
}

void fake_guest_tools::listen_agents(agents_listener heard) {
  auto lock = guard{mutex_};
  heard_agents_ = std::move(heard);
  tell_agents();
}

void fake_guest_tools::tell_agents() {
  if (!heard_agents_ || !agents_told_)
    return;
  auto names = std::set<std::string>{};
  for (auto& [name, user] : users_)
    names.insert(name);
  heard_agents_(std::move(names));
}

void fake_guest_tools::tell_of_agents(bool on) {
  auto lock = guard{mutex_};
  agents_told_ = on;
  tell_agents();
}

void fake_guest_tools::drop_agent(const std::string& name) {
  auto lock = guard{mutex_};
  users_.erase(name);
  tell_agents();
}

void fake_guest_tools::connect_agent(const std::string& name, const std::string& user) {
  auto lock = guard{mutex_};
  users_[name] = user;
  tell_agents();
}

std::map<std::string, std::string> fake_guest_tools::database(const std::string& name) const {
  auto lock = guard{mutex_};
  auto i = bases_.find(name);
  return i == bases_.end() ? std::map<std::string, std::string>{} : i->second.entries;
}

model::qubesdb_edits fake_guest_tools::written(const std::string& name) const {
  auto lock = guard{mutex_};
  auto i = bases_.find(name);
  return i == bases_.end() ? model::qubesdb_edits{} : i->second.written;
}

void fake_guest_tools::forget(const std::string& name) {
  auto lock = guard{mutex_};
  bases_[name].written.clear();
}

void fake_guest_tools::guest_writes(const std::string& name, const std::string& path,
                                    const std::string& text) {
  auto lock = guard{mutex_};
  make(name, bases_[name], {path, text});
}

void fake_guest_tools::guest_removes(const std::string& name, const std::string& path) {
  auto lock = guard{mutex_};
  make(name, bases_[name], {path, std::nullopt});
}

void fake_guest_tools::break_qubesdb(const std::string& name, bool broken) {
  auto lock = guard{mutex_};
  auto& base = bases_[name];
  base.broken = broken;
  if (broken && !std::exchange(base.watched, {}).empty())
    heard_.ended(name);
}

std::set<std::string> fake_guest_tools::services() const {
  auto lock = guard{mutex_};
  return services_;
}

} // namespace qubes::drivers
