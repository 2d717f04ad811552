// Templates of libvirt XML that a site wrote for the stock daemon (spec/libvirt-xml.md).
#pragma once

#include <string>
#include <vector>

namespace qubes::drivers {

/// What is said of each file below `config`/templates/libvirt: nobody here renders it.
std::vector<std::string> find_site_templates(const std::string& config);

} // namespace qubes::drivers
