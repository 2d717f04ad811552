// Reading and writing single elements.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pugi {
class xml_node;
}

namespace qubes::model::xml {

bool is_element(const pugi::xml_node& x);

/// Elements, that is; text does not count.
bool has_children(const pugi::xml_node& x);

/// All text of an element, without that of its children.
std::string text_of(const pugi::xml_node& x);

/// "" when the attribute is missing.
std::string_view attribute(const pugi::xml_node& x, const char* name);

bool has_attribute(const pugi::xml_node& x, const char* name);

/// An attribute that is given twice, "" for none.
std::string_view doubled_attribute(const pugi::xml_node& x);

/// Offset of what is inside of an element, one past the text where nothing is.
std::size_t inside_of(const pugi::xml_node& x);

/// Offset of an element's `<` in the text that was parsed.
std::size_t offset_of(const pugi::xml_node& x);

using pairs = std::vector<std::pair<std::string, std::string>>;

bool has_key(const pairs& all, std::string_view key);

void append_text(std::string& out, std::string_view text);

/// The value as it stands between the quotes of an attribute.
std::string escaped(std::string_view value);

/// ` name="value"`
void append_attribute(std::string& out, std::string_view name, std::string_view value);

/// As `append_attribute`, of a value that is escaped.
void append_written(std::string& out, std::string_view name, std::string_view escaped_value);

/// A whole element with one attribute `name`: `<tag name="…">text</tag>`.
void append_named(std::string& out, std::string_view tag, std::string_view name,
                  std::string_view text);

} // namespace qubes::model::xml
