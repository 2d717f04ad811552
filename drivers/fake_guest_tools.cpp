#include "drivers/fake_guest_tools.hpp"

#include <fmt/format.h>

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
  if (heard_ && in.watched.contains(x.path))
    heard_(name, x.path);
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

void fake_guest_tools::listen(listener heard) {
  auto lock = guard{mutex_};
  heard_ = std::move(heard);
}

outcome<void> fake_guest_tools::watch_qubesdb(const std::string& name, const std::string& path) {
  auto lock = guard{mutex_};
  return find(name).map([&](base* found) { found->watched.insert(path); });
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

bool fake_guest_tools::agent_connected(const std::string&) {
  return true;
}

void fake_guest_tools::close(const std::string& name) {
  auto lock = guard{mutex_};
  bases_.erase(name);
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
  bases_[name].broken = broken;
}

std::set<std::string> fake_guest_tools::services() const {
  auto lock = guard{mutex_};
  return services_;
}

} // namespace qubes::drivers
