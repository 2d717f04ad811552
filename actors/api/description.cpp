// What the hypervisor is given: the domain's XML, with the site's changes merged over it.
#include "actors/domain/domain.hpp"
#include "model/xml/libvirt_xml.hpp"
#include "model/xml/overlay.hpp"

#include <fmt/format.h>

namespace qubes::actors {

using model::errc;

model::outcome<domain_state::description>
domain_state::describe_guest(const model::view& v, const model::domain& me, const start_run& run) {
  auto as_found = model::with_found(me, "pci", run.pci);
  as_found = model::with_found(std::move(as_found), "block", run.disks_found);
  auto machine = model::xml::gather(v, as_found, run.devices);
  if (!run.pci.empty())
    machine.required_pci = model::xml::required_pci(me, run.pci);
  auto own = model::xml::render(machine);
  if (!own)
    return tl::unexpected{std::move(own.error())};
  if (!run.overlay)
    return description{.text = std::move(*own),
                       .plain = {},
                       .mac = machine.mac,
                       .skipped = {},
                       .needs = model::xml::needs_of(machine)};
  auto merged = model::xml::merge_overlay(*own, *run.overlay);
  if (!merged)
    return model::fail(errc::vm_error,
                       fmt::format("the site's changes of the XML of '{}', libvirt/{}.xml, have no "
                                   "effect: {}",
                                   me.name.str(), me.name.str(), merged.error().text),
                       "mend the file, or take it away");
  return description{.text = std::move(merged->text),
                     .plain = std::move(*own),
                     .mac = machine.mac,
                     .skipped = std::move(merged->skipped),
                     .needs = model::xml::needs_of(machine)};
}

/// A domain that lacks what its overlay changes starts all the same.
void domain_state::tell_skipped(const std::vector<std::string>& skipped) {
  auto file = fmt::format("libvirt/{}.xml", who_);
  if (world_->status.find(who_, file, skipped))
    for (auto& x : skipped)
      note(spdlog::level::warn, "{}: {}", file, x);
}

/// As it would be started now; which devices its volumes will be is not known before.
void domain_state::carry_out(const ask::tell_xml& x, const reply& to) {
  auto read = [this, plain = x.plain, to](const std::optional<std::string>& overlay) {
    auto now = look();
    auto* me = record(now);
    if (!me)
      return to.refuse(model::no_such_domain(who_));
    auto run = start_run{};
    if (!plain)
      run.overlay = overlay;
    auto xml = describe_guest(now.view(), *me, run);
    if (xml && !plain)
      tell_skipped(xml->skipped);
    xml ? to.ok(xml->text) : to.refuse(xml.error());
  };
  look_up(to, work(job::read_overlay{}), read);
}

} // namespace qubes::actors
