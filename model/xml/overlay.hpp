// A site's own changes of a domain's libvirt XML (docs/libvirt-overlay.md).
#pragma once

#include "model/error.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace qubes::model::xml {

/// Bytes an overlay may have.
inline constexpr std::size_t max_overlay_bytes = 64U << 10;

/// The XML of a domain with an overlay's elements merged over it. Refuses what is no XML, has a
/// document type, is no <domain>, changes the name or the uuid, or speaks of a part that is not
/// there; the reason names it.
outcome<std::string> merge_overlay(const std::string& domain, std::string_view overlay);

} // namespace qubes::model::xml
