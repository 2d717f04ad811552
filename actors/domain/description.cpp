#include "actors/domain/description.hpp"

#include "model/xml/overlay.hpp"

#include <fmt/format.h>

namespace qubes::actors {

using model::errc;

std::string overlay_of(const std::string& domain) {
  return fmt::format("libvirt/{}.xml", domain);
}

model::outcome<guest_description> describe_guest(const model::view& v, const model::domain& me,
                                                 const start_materials& from) {
  auto as_found = model::with_found(me, "pci", from.pci);
  as_found = model::with_found(std::move(as_found), "block", from.disks_found);
  auto machine = model::xml::gather(v, as_found, from.volumes);
  if (!from.pci.empty())
    machine.required_pci = model::xml::required_pci(me, from.pci);
  auto own = model::xml::render(machine);
  if (!own)
    return tl::unexpected{std::move(own.error())};
  if (!from.overlay)
    return guest_description{.text = std::move(*own),
                             .plain = {},
                             .mac = machine.mac,
                             .skipped = {},
                             .needs = model::xml::needs_of(machine)};
  auto merged = model::xml::merge_overlay(*own, *from.overlay);
  if (!merged)
    return model::fail(errc::vm_error,
                       fmt::format("the site's changes of the XML of '{}', {}, have no effect: {}",
                                   me.name.str(), overlay_of(me.name), merged.error().text),
                       "mend the file, or take it away");
  return guest_description{.text = std::move(merged->text),
                           .plain = std::move(*own),
                           .mac = machine.mac,
                           .skipped = std::move(merged->skipped),
                           .needs = model::xml::needs_of(machine)};
}

} // namespace qubes::actors
