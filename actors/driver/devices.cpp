// Devices of guests and of the host, as the hypervisor is asked for them.
#include "actors/driver/jobs.hpp"

#include "drivers/guest/xenstore_guest.hpp"
#include "drivers/host/pci.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

/// libxl keeps a device that it could not attach in its books, where libvirt does not see it:
/// nothing can be attached in a disk's place until the guest ends, and an interface comes to life
/// beside the one that is attached next.
void take_out_of_books(machinery& with, const domain_identity& about,
                       const job::attach_device& what) {
  if (!with.toolstack || !with.of(about).can().xenstore)
    return;
  auto disk = model::xml::disk_target(what.xml);
  auto mac = model::xml::interface_mac(what.xml);
  auto done = with.of(about).devices(about.uuid).and_then([&](const drivers::live_devices& has) {
    auto has_disk = std::ranges::find(has.disks, disk) != has.disks.end();
    auto has_mac = std::ranges::find(has.links, mac, &model::network_link::mac) != has.links.end();
    if (!disk.empty() && !has_disk)
      return with.toolstack->detach_disk(about.xid, disk);
    if (!mac.empty() && !has_mac)
      return with.toolstack->detach_interface(about.xid, mac);
    return outcome<void>{};
  });
  if (!done)
    spdlog::warn("{}: device {}{} that could not be attached may stay half attached: {}",
                 about.name, disk, mac, done.error().text);
}

/// The job may have waited for longer than the guest lived; the next guest has the same uuid.
outcome<void> same_guest(machinery& with, const domain_identity& about) {
  auto now = with.of(about).inspect(about.uuid);
  if (!now)
    return tl::unexpected{std::move(now.error())};
  if (now->xid == about.xid)
    return {};
  return model::fail(errc::vm_not_started,
                     fmt::format("this life of domain '{}' is over", about.name));
}

} // namespace

outcome<void> run(machinery& with, const domain_identity& about, const job::attach_device& what) {
  if (auto same = same_guest(with, about); !same)
    return same;
  auto done = with.of(about).attach(about.uuid, what.xml);
  if (!done && done.error().code == errc::hypervisor)
    take_out_of_books(with, about, what);
  return done;
}

outcome<void> run(machinery& with, const domain_identity& about, const job::detach_device& what) {
  if (auto same = same_guest(with, about); !same)
    return same;
  return with.of(about).detach(about.uuid, what.xml);
}

outcome<job::read_devices::result> run(machinery& with, const domain_identity& about,
                                       const job::read_devices&) {
  auto found = with.of(about).devices(about.uuid);
  if (!found)
    return tl::unexpected{std::move(found.error())};
  auto result = job::read_devices::result{std::move(found->attachments), std::move(found->links)};
  if (with.xenstore && with.of(about).can().xenstore)
    for (auto& x : result.links)
      x.backend = drivers::backend_of(*with.xenstore, about.xid, x.mac);
  if (std::ranges::find(result.attachments, "pci", &model::attachment::kind)
      == result.attachments.end())
    return result;
  auto of_host = run(with, about, job::list_pci{});
  if (!of_host)
    return tl::unexpected{std::move(of_host.error())};
  for (auto& x : result.attachments) {
    if (x.kind != "pci")
      continue;
    auto it = std::ranges::find(*of_host, x.address, model::pci_address_of);
    if (it == of_host->end())
      continue;
    x.port = it->port;
    x.identity = it->identity;
  }
  return result;
}

outcome<std::vector<model::device>> run(machinery& with, const domain_identity&,
                                        const job::list_pci&) {
  auto found = with.hypervisor->pci_devices();
  if (!found)
    return found;
  return drivers::place_pci(std::move(*found), with.sysfs);
}

outcome<std::vector<model::device>> run(machinery& with, const domain_identity& about,
                                        const job::bind_pci& what) {
  auto of_host = run(with, about, job::list_pci{});
  if (!of_host)
    return of_host;
  auto result = std::vector<model::device>{};
  for (auto& x : what.devices) {
    auto it = std::ranges::find(*of_host, x.port, &model::device::port);
    if (it == of_host->end())
      return model::fail(errc::general, fmt::format("PCI device {} does not exist", x.shown),
                         fmt::format("unassign it from '{}'", about.name));
    if (auto done = with.hypervisor->bind_pci(model::pci_address_of(*it)); !done)
      return tl::unexpected{std::move(done.error())};
    result.push_back(*it);
  }
  return result;
}

} // namespace qubes::actors
