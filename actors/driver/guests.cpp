// The life of a guest, as the hypervisor is asked for it.
#include "actors/driver/jobs.hpp"

#include "drivers/guest/xenstore_guest.hpp"
#include "model/xml/preparation.hpp"

#include <fmt/format.h>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

model::hypervisor_id place_of(const domain_identity& x) {
  return x.at.value_or(model::hypervisor_id::host);
}

/// What dom0 has to have ready before the guest is built.
outcome<void> prepare(machinery& with, const model::xml::preparation& what) {
  if (!with.container_host)
    return {};
  for (auto& x : what.bridges)
    if (auto done = with.container_host->bring_up_bridge(x.name, x.own); !done)
      return done;
  for (auto& x : what.file_systems) {
    if (auto done = with.container_host->prepare_file_system(x.volume, x.path, x.make); !done)
      return done;
    if (x.link.empty())
      continue;
    if (auto done = with.container_host->link(x.link, x.path); !done)
      return done;
  }
  return {};
}

} // namespace

void complete(machinery& with, model::hypervisor_id at, model::guest& x) {
  x.at = at;
  if (with.xenstore && x.xid > 0 && with.find(at)->can().xenstore)
    drivers::read_guest(*with.xenstore, x);
}

outcome<model::guest> run(machinery& with, const domain_identity& about,
                          const job::create_guest& what) {
  if (auto ready = prepare(with, what.needs); !ready)
    return tl::unexpected{std::move(ready.error())};
  auto& hypervisor = with.of(about);
  auto xid = hypervisor.create(about.uuid, what.xml, what.xml_without_overlay);
  if (!xid)
    return tl::unexpected{xid.error()};
  if (!hypervisor.can().paused_start) {
    if (auto held = hypervisor.suspend(about.uuid); !held)
      return tl::unexpected{held.error()};
  }
  auto result = model::guest{};
  result.uuid = about.uuid;
  result.xid = *xid;
  result.state = model::power::paused;
  complete(with, place_of(about), result);
  return result;
}

outcome<void> run(machinery& with, const domain_identity& about, const job::pause_guest&) {
  return with.of(about).suspend(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::unpause_guest&) {
  return with.of(about).resume(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::shut_down_guest&) {
  return with.of(about).shutdown(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::kill_guest&) {
  return with.of(about).destroy(about.uuid);
}

/// A daemon of the hypervisor that died in the middle of a build does not know of it any more.
outcome<void> run(machinery& with, const domain_identity& about, const job::take_back_guest&) {
  auto done = with.of(about).destroy(about.uuid);
  auto by_toolstack = with.toolstack && with.xenstore && with.of(about).can().xenstore;
  if (done || done.error().code != errc::vm_not_started || !by_toolstack)
    return done;
  auto lost = drivers::find_by_uuid(*with.xenstore, about.uuid);
  if (!lost)
    return done;
  auto ended = with.toolstack->destroy(*lost);
  if (!ended)
    return model::fail(errc::hypervisor,
                       fmt::format("the guest {} that a failed start of '{}' left behind does not "
                                   "end: {}",
                                   *lost, about.name, ended.error().text));
  return {};
}

outcome<void> run(machinery& with, const domain_identity& about, const job::suspend_guest&) {
  return with.of(about).sleep(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::resume_guest&) {
  return with.of(about).wake(about.uuid);
}

outcome<model::guest> run(machinery& with, const domain_identity& about,
                          const job::inspect_guest&) {
  auto found = with.of(about).inspect(about.uuid);
  if (found)
    complete(with, place_of(about), *found);
  return found;
}

outcome<std::string> run(machinery& with, const domain_identity& about, const job::find_console&) {
  return with.of(about).console(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::undefine_guest&) {
  return with.of(about).undefine(about.uuid);
}

/// libvirt knows nothing of guests that others made with Xen's own tools.
outcome<void> run(machinery& with, const domain_identity& about, const job::look_for_strangers&) {
  if (!with.xenstore || !with.of(about).can().xenstore)
    return {};
  auto other = drivers::find_by_name(*with.xenstore, about.name);
  if (!other)
    other = drivers::find_by_uuid(*with.xenstore, about.uuid);
  if (!other)
    return {};
  return model::fail(
      errc::vm_error,
      fmt::format("the host has another guest of the name or uuid of '{}', with id {}", about.name,
                  *other),
      fmt::format("'xl destroy {}' ends it", *other));
}

} // namespace qubes::actors
