#include "model/system/kept_entry.hpp"

#include "model/xml/elements.hpp"

#include <pugixml.hpp>

namespace qubes::model {

namespace {

template <class Test>
bool holds(std::string_view text, Test test) {
  auto document = pugi::xml_document{};
  return document.load_buffer(text.data(), text.size(), pugi::parse_default, pugi::encoding_utf8)
         && test(document.document_element());
}

} // namespace

bool is_entry(std::string_view text, std::string_view list, std::string_view name) {
  return holds(text, [&](const pugi::xml_node& x) {
    return x.name() == list && xml::attribute(x.first_child(), "name") == name;
  });
}

bool is_named(std::string_view text, std::string_view tag, std::string_view name) {
  return holds(text, [&](const pugi::xml_node& x) {
    return x.name() == tag && xml::attribute(x, "name") == name;
  });
}

} // namespace qubes::model
