#include "model/system/kept_entry.hpp"

#include "model/xml/elements.hpp"

#include <pugixml.hpp>

namespace qubes::model {

bool is_entry(std::string_view text, std::string_view list, std::string_view name) {
  auto document = pugi::xml_document{};
  if (!document.load_buffer(text.data(), text.size(), pugi::parse_default, pugi::encoding_utf8))
    return false;
  auto root = document.document_element();
  return root.name() == list && xml::attribute(root.first_child(), "name") == name;
}

} // namespace qubes::model
