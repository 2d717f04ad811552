#include "model/xml/overlay.hpp"

#include "model/literal.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <sstream>

namespace qubes::model::xml {

namespace {

using pugi::xml_node;

/// Attributes of the overlay itself, which libvirt does not see.
constexpr auto own_prefix = std::string_view{"qvmd:"};
constexpr auto remove_mark = "qvmd:remove";
constexpr auto which_mark = "qvmd:which";

constexpr auto deepest = 20;

struct key_row {
  std::string_view element;
  std::string_view child; ///< the element that has the attribute, "" for itself
  const char* attribute;
};

/// What tells siblings of one name apart.
constexpr key_row keys[]{
    {"disk", "target", "dev"},    {"interface", "mac", "address"}, {"feature", "", "name"},
    {"controller", "", "type"},   {"input", "", "type"},           {"graphics", "", "type"},
    {"serial", "target", "port"}, {"console", "target", "port"},   {"vcpupin", "", "vcpu"},
    {"timer", "", "name"},        {"table", "", "type"},           {"boot", "", "dev"},
};

/// Siblings of these names are never the same: each is added.
constexpr std::string_view lists[]{"hostdev", "qemu:arg", "xen:arg", "arg", "filesystem"};

bool is_list(const xml_node& x) {
  return std::ranges::find(lists, std::string_view{x.name()}) != std::end(lists);
}

/// "" where nothing tells it from its siblings.
std::string_view key_of(const xml_node& x) {
  if (auto which = x.attribute(which_mark))
    return which.value();
  auto* row = std::ranges::find(keys, std::string_view{x.name()}, &key_row::element);
  if (row == std::end(keys))
    return {};
  auto holder = row->child.empty() ? x : x.child(row->child.data());
  return holder.attribute(row->attribute).value();
}

/// The element of ours that one of the overlay speaks of: by its key, else the first of its name.
xml_node find_match(const xml_node& into, const xml_node& x) {
  if (is_list(x) && !x.attribute(which_mark))
    return {};
  auto key = key_of(x);
  for (auto y : into.children(x.name()))
    if (key.empty() || key_of(y) == key)
      return y;
  return {};
}

std::string path_of(const xml_node& x) {
  return x.path('/').substr(1);
}

bool has_text(const xml_node& x) {
  return !std::string_view{x.text().get()}.empty()
         && std::string_view{x.text().get()}.find_first_not_of(" \t\r\n") != std::string_view::npos;
}

/// Without the marks of the overlay.
void add(xml_node into, const xml_node& x) {
  auto last = xml_node{};
  for (auto y : into.children(x.name()))
    last = y;
  auto copy = last ? into.insert_copy_after(x, last) : into.append_copy(x);
  copy.remove_attribute(which_mark);
}

outcome<void> merge(xml_node into, const xml_node& from, int depth) {
  if (depth > deepest)
    return fail(errc::general, "its elements are too deep");
  for (auto x : from.attributes())
    if (!std::string_view{x.name()}.starts_with(own_prefix)
        && !std::string_view{x.name()}.starts_with("xmlns:qvmd")) {
      into.remove_attribute(x.name());
      into.append_attribute(x.name()).set_value(x.value());
    }
  if (has_text(from))
    into.text().set(from.text().get());
  for (auto x : from.children()) {
    if (x.type() != pugi::node_element)
      continue;
    auto match = find_match(into, x);
    auto wants_one = x.attribute(remove_mark) || x.attribute(which_mark);
    if (!match && wants_one)
      return fail(errc::general, fmt::format("<{}> {}: there is none to change", path_of(x),
                                             quoted(std::string{key_of(x)})));
    if (x.attribute(remove_mark))
      into.remove_child(match);
    else if (!match)
      add(into, x);
    else if (auto done = merge(match, x, depth + 1); !done)
      return done;
  }
  return {};
}

outcome<void> check_root(const pugi::xml_document& overlay, const xml_node& root) {
  for (auto x : overlay.children())
    if (x.type() == pugi::node_doctype)
      return fail(errc::general, "it has a document type");
  if (root.name() != std::string_view{"domain"})
    return fail(errc::general, fmt::format("its root is <{}>, not <domain>", root.name()));
  for (auto* name : {"name", "uuid"})
    if (root.child(name))
      return fail(errc::general, fmt::format("it changes the {} of the domain", name));
  return {};
}

} // namespace

outcome<std::string> merge_overlay(const std::string& domain, std::string_view overlay) {
  auto whole = pugi::xml_document{};
  auto site = pugi::xml_document{};
  if (overlay.size() > max_overlay_bytes)
    return fail(errc::general, fmt::format("it has more than {} bytes", max_overlay_bytes));
  auto parsed =
      site.load_buffer(overlay.data(), overlay.size(), pugi::parse_default | pugi::parse_doctype);
  if (!parsed)
    return fail(errc::general,
                fmt::format("it is no XML: {} at byte {}", parsed.description(), parsed.offset));
  if (!whole.load_buffer(domain.data(), domain.size()))
    return fail(errc::internal, "the domain's own description is no XML");
  auto root = site.document_element();
  if (auto sound = check_root(site, root); !sound)
    return tl::unexpected{std::move(sound.error())};
  if (auto done = merge(whole.document_element(), root, 0); !done)
    return tl::unexpected{std::move(done.error())};
  auto out = std::ostringstream{};
  whole.save(out, "  ", pugi::format_default | pugi::format_no_declaration);
  return out.str();
}

} // namespace qubes::model::xml
