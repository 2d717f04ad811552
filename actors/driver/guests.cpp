// The life of a guest, as the hypervisor is asked for it.
#include "actors/driver/jobs.hpp"

#include "drivers/xenstore_guest.hpp"

#include <fmt/format.h>

namespace qubes::actors {

using model::errc;
using model::outcome;

void complete(machinery& with, model::guest& x) {
  if (with.xenstore && x.xid > 0)
    drivers::read_guest(*with.xenstore, x);
}

outcome<model::guest> run(machinery& with, const domain_identity& about,
                          const job::create_guest& what) {
  auto xid = with.hypervisor->create(about.uuid, what.xml, what.xml_without_overlay);
  if (!xid)
    return tl::unexpected{xid.error()};
  if (!with.hypervisor->can().paused_start) {
    if (auto held = with.hypervisor->suspend(about.uuid); !held)
      return tl::unexpected{held.error()};
  }
  auto result = model::guest{};
  result.uuid = about.uuid;
  result.xid = *xid;
  result.state = model::power::paused;
  complete(with, result);
  return result;
}

outcome<void> run(machinery& with, const domain_identity& about, const job::pause_guest&) {
  return with.hypervisor->suspend(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::unpause_guest&) {
  return with.hypervisor->resume(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::shut_down_guest&) {
  return with.hypervisor->shutdown(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::kill_guest&) {
  return with.hypervisor->destroy(about.uuid);
}

/// A daemon of the hypervisor that died in the middle of a build does not know of it any more.
outcome<void> run(machinery& with, const domain_identity& about, const job::take_back_guest&) {
  auto done = with.hypervisor->destroy(about.uuid);
  if (done || done.error().code != errc::vm_not_started || !with.toolstack || !with.xenstore)
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
  return with.hypervisor->sleep(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::resume_guest&) {
  return with.hypervisor->wake(about.uuid);
}

outcome<model::guest> run(machinery& with, const domain_identity& about,
                          const job::inspect_guest&) {
  auto found = with.hypervisor->inspect(about.uuid);
  if (found)
    complete(with, *found);
  return found;
}

outcome<std::string> run(machinery& with, const domain_identity& about, const job::find_console&) {
  return with.hypervisor->console(about.uuid);
}

outcome<void> run(machinery& with, const domain_identity& about, const job::undefine_guest&) {
  return with.hypervisor->undefine(about.uuid);
}

/// libvirt knows nothing of guests that others made with Xen's own tools.
outcome<void> run(machinery& with, const domain_identity& about, const job::look_for_strangers&) {
  if (!with.xenstore)
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
