// Loads a qubes.xml as on a host of no particular kind.
#pragma once

#include "model/xml/qubes_xml.hpp"

#include <string>
#include <string_view>

namespace qubes::tests {

inline std::string a_uuid() {
  return "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
}

inline model::outcome<model::xml::loaded> load(std::string_view text) {
  return model::xml::load(text, model::host{}, a_uuid);
}

} // namespace qubes::tests
