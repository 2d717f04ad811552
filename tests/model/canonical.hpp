// XML as text that is equal exactly when two documents have the same meaning.
#pragma once

#include <pugixml.hpp>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::tests {

inline std::string canonical(const pugi::xml_node& x) {
  if (x.type() == pugi::node_pcdata || x.type() == pugi::node_cdata) {
    auto text = std::string_view{x.value()};
    return text.find_first_not_of(" \t\r\n") == text.npos ? "" : "\"" + std::string{text} + "\"";
  }
  if (x.type() != pugi::node_element)
    return "";
  auto attributes = std::map<std::string, std::string>{};
  for (auto y : x.attributes())
    attributes.emplace(y.name(), y.value());
  auto result = "\n<" + std::string{x.name()};
  for (auto& [name, text] : attributes)
    result.append(" ").append(name).append("='").append(text).append("'");
  auto children = std::vector<std::string>{};
  for (auto y : x.children())
    children.push_back(canonical(y));
  if (x.name() == std::string_view{"tags"}) // tags are a set
    std::ranges::sort(children);
  result += ">";
  for (auto& y : children)
    result += y;
  return result + "</>";
}

/// Comments, white space between elements and the order of attributes and tags do not count.
inline std::string canonical(std::string_view text) {
  auto document = pugi::xml_document{};
  auto parsed = document.load_buffer(text.data(), text.size(),
                                     pugi::parse_default | pugi::parse_ws_pcdata_single);
  return parsed ? canonical(document.document_element())
                : "no XML: " + std::string{parsed.description()};
}

inline std::string read_file(const std::string& path) {
  auto file = std::ifstream{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

} // namespace qubes::tests
