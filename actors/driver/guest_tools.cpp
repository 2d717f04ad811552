// What a guest is reached by: its QubesDB and its XenStore, its agent, its services.
#include "actors/driver/jobs.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

/// The entries that QubesDB can hold; says which it cannot.
model::qubesdb_edits fitting_entries(const domain_identity& about, model::qubesdb_edits all) {
  for (auto& x : all)
    if (!x.unfit.empty())
      spdlog::warn("QubesDB of '{}' does not get an entry: {}", about.name, x.unfit);
  std::erase_if(all, [](auto& x) { return x.path.empty(); });
  return all;
}

/// dom0 has a QubesDB whatever its guests have.
bool has_qubesdb(machinery& with, const domain_identity& about) {
  return about.name == "dom0" || with.of(about).can().qubesdb;
}

/// What the service said; nothing where no program runs services.
outcome<std::optional<std::string>> call_service(machinery& with, const domain_identity& about,
                                                 const model::service_call& call,
                                                 std::chrono::seconds patience,
                                                 std::stop_token stop = {}) {
  if (!with.of(about).can().agent && about.name != "dom0")
    return model::fail(errc::general,
                       fmt::format("no services run in '{}': its hypervisor has no way to reach an "
                                   "agent in it",
                                   about.name));
  constexpr auto usual = std::chrono::seconds{60};
  return with.tools->run_service(about.name, call, patience.count() > 0 ? patience : usual,
                                 std::move(stop));
}

} // namespace

outcome<void> run(machinery& with, const domain_identity& about, const job::open_qubesdb& what) {
  if (!has_qubesdb(with, about))
    return {};
  return with.tools->open_qubesdb(about.name, about.xid, fitting_entries(about, what.entries));
}

outcome<model::entry_list> run(machinery& with, const domain_identity& about,
                               const job::read_qubesdb& what) {
  if (!has_qubesdb(with, about))
    return model::entry_list{};
  return with.tools->read_qubesdb(about.name, what.prefix);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::write_qubesdb& what) {
  if (!has_qubesdb(with, about))
    return {};
  return with.tools->write_qubesdb(about.name, fitting_entries(about, what.edits));
}

outcome<void> run(machinery& with, const domain_identity& about, const job::watch_qubesdb& what) {
  if (!has_qubesdb(with, about))
    return {};
  return with.tools->watch_qubesdb(about.name, what.paths);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::write_xenstore& what) {
  if (!with.xenstore || !with.of(about).can().xenstore)
    return {};
  auto owner = std::vector{drivers::xs_permission{.domain = static_cast<unsigned>(about.xid)}};
  return with.xenstore->transact([&](drivers::xenstore& inside) -> outcome<void> {
    for (auto& [path, text] : what.entries) {
      if (auto done = inside.write(path, text); !done)
        return done;
      if (text.empty()) // the guest fills it in
        if (auto done = inside.set_permissions(path, owner); !done)
          return done;
    }
    return {};
  });
}

outcome<void> run(machinery& with, const domain_identity& about, const job::start_agent& what) {
  if (!with.of(about).can().agent)
    return {};
  return with.tools->start_agent(
      {.name = about.name,
       .uuid = about.uuid,
       .xid = about.xid,
       .user = what.user,
       .wait = what.wait,
       .limit = what.patience,
       .debug = what.debug,
       .stop = what.cancellation ? what.cancellation->stop.get_token() : std::stop_token{}});
}

outcome<bool> run(machinery& with, const domain_identity& about, const job::look_for_agent&) {
  return !with.of(about).can().agent || with.tools->agent_connected(about.name);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::run_service& what) {
  return call_service(with, about, what.call, what.patience).map([](const auto&) {});
}

outcome<std::string> run(machinery& with, const domain_identity& about,
                         const job::ask_service& what) {
  auto stop = what.cancellation ? what.cancellation->stop.get_token() : std::stop_token{};
  auto said = call_service(with, about, what.call, what.patience, std::move(stop));
  if (!said)
    return model::fail(errc::general, std::move(said.error().text), std::move(said.error().hint));
  if (!*said)
    return model::fail(errc::general, "there is no program that runs services in domains");
  return std::move(**said);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::sync_menus& what) {
  return with.tools->sync_menus(about.name, what.patience);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::close_tools&) {
  with.tools->close(about.name);
  return {};
}

} // namespace qubes::actors
