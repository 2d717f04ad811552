// A site's own changes of a domain's libvirt XML (docs/libvirt-overlay.md).
#pragma once

#include "model/base/error.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model::xml {

/// Bytes an overlay may have.
inline constexpr std::size_t max_overlay_bytes = 64U << 10;

struct merged_xml {
  std::string text;
  std::vector<std::string> skipped; ///< what of the overlay speaks of parts that are not there
};

/// The XML of a domain with an overlay's elements merged over it. Refuses what is no XML, has a
/// document type, is no <domain>, changes the name or the uuid, or has marks that are unknown or
/// that speak of a part that is not there; the reason names it.
outcome<merged_xml> merge_overlay(const std::string& domain, std::string_view overlay);

/// The XML of a domain without what only the libvirt of Qubes knows, as libvirt's schema can judge
/// it.
std::string for_schema(const std::string& domain);

} // namespace qubes::model::xml
