// What the hypervisor is given: the domain's XML, with the site's changes merged over it.
#pragma once

#include "model/base/error.hpp"
#include "model/device/device.hpp"
#include "model/system/view.hpp"
#include "model/xml/libvirt_xml.hpp"
#include "model/xml/preparation.hpp"

#include <optional>
#include <string>
#include <vector>

namespace qubes::actors {

/// What a start has gathered; with less, the domain is described as far as it is known.
struct start_materials {
  std::vector<model::device> pci;         ///< taken from their drivers for it
  std::vector<model::device> disks_found; ///< of those that may offer required ones
  model::xml::devices volumes;            ///< the devices of its volumes, once they are started
  std::optional<std::string> overlay;     ///< the site's changes of its XML
};

struct guest_description {
  std::string text;
  std::string plain; ///< without the site's changes, "" where it has none
  std::string mac;
  std::vector<std::string> skipped; ///< of the site's changes
  model::xml::preparation needs;
};

/// Refused for changes of the site that have no effect, and where `model::xml::render` refuses.
model::outcome<guest_description> describe_guest(const model::view& v, const model::domain& me,
                                                 const start_materials& from);

/// The site's file with its changes, as findings name it.
std::string overlay_of(const std::string& domain);

} // namespace qubes::actors
