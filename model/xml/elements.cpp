#include "model/xml/elements.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <vector>

namespace qubes::model::xml {

namespace {

std::string_view entity(char x, bool in_attribute) {
  switch (x) {
  case '&': return "&amp;";
  case '<': return "&lt;";
  case '>': return "&gt;";
  case '\r': return "&#13;";
  case '"': return in_attribute ? "&quot;" : "";
  case '\n': return in_attribute ? "&#10;" : "";
  case '\t': return in_attribute ? "&#9;" : "";
  default: return "";
  }
}

void append_escaped(std::string& out, std::string_view text, bool in_attribute) {
  auto special = in_attribute ? std::string_view{"&<>\r\"\n\t"} : std::string_view{"&<>\r"};
  for (auto at = text.find_first_of(special); at != std::string_view::npos;
       at = text.find_first_of(special)) {
    out += text.substr(0, at);
    out += entity(text[at], in_attribute);
    text.remove_prefix(at + 1);
  }
  out += text;
}

/// Some editors show an empty element as lines without content.
bool is_layout(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == text.npos && text.find('\n') != text.npos;
}

/// A value that looks like layout says that it is none. Readers change a raw '\r' even there.
void append_meant(std::string& out, std::string_view text) {
  while (!text.empty()) {
    auto piece = text.substr(0, text.find('\r'));
    out += piece.empty() ? "&#13;" : fmt::format("<![CDATA[{}]]>", piece);
    text.remove_prefix(std::max(piece.size(), std::size_t{1}));
  }
}

} // namespace

bool is_element(const pugi::xml_node& x) {
  return x.type() == pugi::node_element;
}

bool has_children(const pugi::xml_node& x) {
  return std::ranges::any_of(x.children(), is_element);
}

std::string text_of(const pugi::xml_node& x) {
  auto result = std::string{};
  auto meant = false;
  for (auto child = x.first_child(); child; child = child.next_sibling()) {
    meant = meant || child.type() == pugi::node_cdata;
    if (child.type() == pugi::node_pcdata || child.type() == pugi::node_cdata)
      result += child.value();
  }
  return meant || !is_layout(result) ? result : std::string{};
}

std::string_view attribute(const pugi::xml_node& x, const char* name) {
  return x.attribute(name).value();
}

bool has_attribute(const pugi::xml_node& x, const char* name) {
  return !x.attribute(name).empty();
}

std::string_view doubled_attribute(const pugi::xml_node& x) {
  auto names = std::vector<std::string_view>{};
  for (auto y : x.attributes())
    names.emplace_back(y.name());
  std::ranges::sort(names);
  auto found = std::ranges::adjacent_find(names);
  return found == names.end() ? std::string_view{} : *found;
}

std::size_t offset_of(const pugi::xml_node& x) {
  auto name = x.offset_debug();
  return name > 0 ? static_cast<std::size_t>(name) - 1 : 0;
}

std::size_t inside_of(const pugi::xml_node& x) {
  auto first = x.first_child();
  return first ? offset_of(first) : std::string_view::npos;
}

bool has_key(const pairs& all, std::string_view key) {
  return std::ranges::find(all, key, &pairs::value_type::first) != all.end();
}

void append_text(std::string& out, std::string_view text) {
  is_layout(text) ? append_meant(out, text) : append_escaped(out, text, false);
}

std::string escaped(std::string_view value) {
  auto result = std::string{};
  append_escaped(result, value, true);
  return result;
}

void append_attribute(std::string& out, std::string_view name, std::string_view value) {
  out += ' ';
  out += name;
  out += "=\"";
  append_escaped(out, value, true);
  out += '"';
}

void append_written(std::string& out, std::string_view name, std::string_view escaped_value) {
  auto quote = escaped_value.find('"') == escaped_value.npos ? '"' : '\'';
  out += fmt::format(" {}={}{}{}", name, quote, escaped_value, quote);
}

void append_named(std::string& out, std::string_view tag, std::string_view name,
                  std::string_view text) {
  out += '<';
  out += tag;
  append_attribute(out, "name", name);
  out += '>';
  append_text(out, text);
  out += "</";
  out += tag;
  out += '>';
}

} // namespace qubes::model::xml
