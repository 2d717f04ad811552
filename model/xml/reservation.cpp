#include "model/base/literal.hpp"
#include "model/property/property.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/loading.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <charconv>

namespace qubes::model::xml {

namespace {

/// A property of any class that names a domain.
bool names_domain(std::string_view property) {
  return std::ranges::any_of(klass_rows, [&](auto& x) {
    auto row = find_property(x.bit, property);
    return row && row->type == wire_type::domain;
  });
}

void note_property(const pugi::xml_node& x, reservation& to) {
  auto name = std::string{attribute(x, "name")};
  auto text = has_attribute(x, "ref") ? std::string{attribute(x, "ref")} : text_of(x);
  if (name == "uuid")
    to.uuid = std::move(text);
  else if (name == "qid")
    to.number = parse_integer(text).value_or(0);
  else if (name == "label")
    to.label = std::move(text);
  else if (!text.empty() && names_domain(name))
    to.domains.emplace_back(std::move(name), std::move(text));
}

void note_domain(const pugi::xml_node& x, reservation& to) {
  for (auto part : x.children()) {
    auto tag = std::string_view{part.name()};
    for (auto y : part.children()) {
      if (tag == "properties" && is_element(y))
        note_property(y, to);
      else if (tag == "devices" && has_attribute(y, "backend-domain"))
        to.domains.emplace_back(
            fmt::format("{} device {}", attribute(part, "class"), attribute(y, "id")),
            attribute(y, "backend-domain"));
      else if (tag == "volume-config" && has_attribute(y, "pool"))
        to.pools.emplace_back(attribute(y, "name"), attribute(y, "pool"));
    }
  }
}

} // namespace

std::optional<int> label_index(std::string_view id) {
  if (!id.starts_with("label-"))
    return std::nullopt;
  id.remove_prefix(6);
  auto x = 0;
  auto [stop, failure] = std::from_chars(id.begin(), id.end(), x);
  if (failure != std::errc{} || stop != id.end() || x < 1)
    return std::nullopt;
  return x;
}

reservation reservation_of(section where, std::string_view element) {
  auto document = pugi::xml_document{};
  auto result = reservation{};
  if (!document.load_buffer(element.data(), element.size()))
    return result;
  auto root = document.document_element();
  if (where == section::domains)
    note_domain(root, result);
  else if (where == section::labels)
    result.number = label_index(attribute(root, "id")).value_or(0);
  return result;
}

} // namespace qubes::model::xml
