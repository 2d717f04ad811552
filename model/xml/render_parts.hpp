// What the renderers of all kinds of hypervisor share.
#pragma once

#include "model/xml/renderer.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::model::xml {

// -- the tree -------------------------------------------------------------------------------------

using attributes = std::initializer_list<std::pair<const char*, std::string>>;

pugi::xml_node add(pugi::xml_node to, const char* tag, attributes all = {},
                   const std::string& text = {});

std::string written(const pugi::xml_document& x);

/// A guest that ends, however it does, is not started again by libvirt.
void add_endings(pugi::xml_node root);

// -- features -------------------------------------------------------------------------------------

/// The feature of the domain, else of its template; null when neither has it.
const std::string* find_feature(const machine& x, const std::string& name);

std::string feature(const machine& x, const std::string& name, const std::string& fallback = {});

bool has_feature(const machine& x, const std::string& name, bool fallback = false);

std::string option(const std::map<std::string, std::string>& all, const std::string& name);

/// What programs in a guest without QubesDB should know of it, by words such as "name", "ip" and
/// "primary-dns"; those alone of which there is something to say.
std::vector<std::pair<std::string_view, std::string>> told_to_programs(const machine& x);

/// Bridges of the host, at which the domain's interfaces are.
std::vector<bridge_use> bridges_of(const machine& x);

// -- refusals -------------------------------------------------------------------------------------

tl::unexpected<error> wrong_mode(const machine& x, std::string hint);

tl::unexpected<error> too_many_disks(const machine& x, std::string_view what);

// -- one of each kind -----------------------------------------------------------------------------

namespace xen {
const renderer& the_renderer();
}
namespace lxc {
const renderer& the_renderer();
}
namespace qemu {
const renderer& the_renderer();
}

} // namespace qubes::model::xml
