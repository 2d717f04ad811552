#include "model/xml/overlay.hpp"

#include "model/base/literal.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/source.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <array>
#include <sstream>

namespace qubes::model::xml {

namespace {

using pugi::xml_node;

/// Attributes of the overlay itself, which libvirt does not see.
constexpr auto own_prefix = std::string_view{"qvmd:"};
constexpr auto remove_mark = "qvmd:remove";
constexpr auto which_mark = "qvmd:which";

/// What Xen calls its own firmware.
constexpr auto firmware_of_xen = std::string_view{"hvmloader"};

struct key_row {
  std::string_view element;
  std::string_view child; ///< the element that has the attribute, "" for itself
  const char* attribute;
  bool whole = false; ///< without its key it is no new one, but a change of one of ours
};

/// What tells siblings of one name apart.
constexpr key_row keys[]{
    {"disk", "target", "dev", true}, {"interface", "mac", "address", true},
    {"feature", "", "name", true},   {"controller", "", "type"},
    {"input", "", "type"},           {"graphics", "", "type"},
    {"serial", "target", "port"},    {"console", "target", "port"},
    {"vcpupin", "", "vcpu", true},   {"timer", "", "name"},
    {"table", "", "type"},           {"boot", "", "dev"},
};

/// Attributes of ours that mean something only with the value that another one had.
struct dependent_row {
  std::string_view element;
  const char* attribute;
  std::array<const char*, 4> with_it;
};
constexpr dependent_row dependents[]{
    {"clock", "offset", {"adjustment", "basis", "timezone", "start"}},
};

void drop_dependents(xml_node into, const xml_node& from) {
  for (auto& row : dependents) {
    auto fresh = from.attribute(row.attribute);
    if (row.element != into.name() || !fresh
        || into.attribute(row.attribute).value() == std::string_view{fresh.value()})
      continue;
    for (auto* name : row.with_it)
      into.remove_attribute(name);
  }
}

/// Siblings of these names are never the same: each is added.
constexpr std::string_view lists[]{"hostdev", "qemu:arg", "xen:arg", "arg", "filesystem"};

bool is_list(const xml_node& x) {
  return std::ranges::find(lists, std::string_view{x.name()}) != std::end(lists);
}

bool is_own(std::string_view name) {
  return name.starts_with(own_prefix) || name.starts_with("xmlns:qvmd");
}

const key_row* find_key(const xml_node& x) {
  auto* row = std::ranges::find(keys, std::string_view{x.name()}, &key_row::element);
  return row == std::end(keys) ? nullptr : row;
}

/// "" where nothing tells the element from its siblings.
std::string_view key_of(const xml_node& x) {
  if (auto which = x.attribute(which_mark))
    return which.value();
  auto* row = find_key(x);
  if (!row)
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

/// Whether the element changes a part that may be there or not: alone it would be no such part.
bool is_change(const xml_node& x) {
  auto* row = find_key(x);
  return row && row->whole && key_of(x).empty();
}

std::string named(const xml_node& x) {
  auto key = key_of(x);
  return fmt::format("<{}>{}", path_of(x), key.empty() ? "" : fmt::format(" {}", quoted(key)));
}

class merging {
public:
  outcome<void> merge(xml_node into, const xml_node& from) {
    drop_dependents(into, from);
    for (auto x : from.attributes())
      if (!is_own(x.name())) {
        into.remove_attribute(x.name());
        into.append_attribute(x.name()).set_value(x.value());
      }
    if (has_text(from))
      into.text().set(from.text().get());
    for (auto x : from.children())
      if (is_element(x))
        if (auto done = merge_child(into, x); !done)
          return done;
    return {};
  }

  std::vector<std::string> skipped;

private:
  outcome<void> merge_child(xml_node into, const xml_node& x) {
    auto match = find_match(into, x);
    if (match && !x.attribute(remove_mark))
      return merge(match, x);
    if (match)
      into.remove_child(match);
    else if (x.attribute(remove_mark) || x.attribute(which_mark))
      return fail(errc::general, named(x) + ": there is none to change");
    else if (is_change(x))
      skipped.push_back(named(x) + " is left out: the domain has none");
    else
      add(into, x);
    return {};
  }

  void add(xml_node into, const xml_node& x) {
    auto last = xml_node{};
    for (auto y : into.children(x.name()))
      last = y;
    clean(last ? into.insert_copy_after(x, last) : into.append_copy(x));
  }

  /// Marks are for us alone; what an added element would not have is not in it.
  void clean(xml_node x) {
    for (auto y = x.first_attribute(); y;) {
      auto next = y.next_attribute();
      if (is_own(y.name()))
        x.remove_attribute(y);
      y = next;
    }
    for (auto y = x.first_child(); y;) {
      auto next = y.next_sibling();
      if (y.attribute(remove_mark) || (!is_element(y) && !is_text(y)))
        x.remove_child(y);
      else
        clean(y);
      y = next;
    }
  }

  static bool is_text(const xml_node& x) {
    return x.type() == pugi::node_pcdata || x.type() == pugi::node_cdata;
  }
};

// -- what an overlay is -----------------------------------------------------------------------

outcome<void> check_marks(const xml_node& x) {
  if (auto twice = doubled_attribute(x); !twice.empty())
    return fail(errc::general,
                fmt::format("<{}> has the attribute {} twice", path_of(x), quoted(twice)));
  if (is_own(x.name()))
    return fail(errc::general, fmt::format("there is no element <{}>", path_of(x)));
  for (auto y : x.attributes()) {
    auto name = std::string_view{y.name()};
    if (!name.starts_with(own_prefix) || name == which_mark)
      continue;
    if (name != remove_mark)
      return fail(errc::general, fmt::format("<{}>: there is no mark {}", path_of(x), quoted(name)),
                  fmt::format("marks are {} and {}", which_mark, remove_mark));
    if (y.value() != std::string_view{"yes"})
      return fail(errc::general, fmt::format("<{}>: {} is {}", path_of(x), name, quoted(y.value())),
                  "yes is allowed");
  }
  for (auto y : x.children())
    if (is_element(y))
      if (auto sound = check_marks(y); !sound)
        return sound;
  return {};
}

outcome<void> check_root(const source& overlay) {
  auto root = overlay.root();
  if (auto* damage = overlay.first_fault(offset_of(root)))
    return fail(errc::general,
                fmt::format("line {}: {}", overlay.line(damage->at), damage->reason));
  if (root.name() != std::string_view{"domain"})
    return fail(errc::general, fmt::format("its root is <{}>, not <domain>", root.name()));
  for (auto* name : {"name", "uuid"})
    if (root.child(name))
      return fail(errc::general, fmt::format("it changes the {} of the domain", name));
  return check_marks(root);
}

// -- what libvirt's schema does not know ----------------------------------------------------------

struct qubes_device {
  std::string_view element;
  std::string_view type;
  std::vector<std::string_view> attributes;
};

const std::vector<qubes_device>& qubes_devices() {
  static const auto all = std::vector<qubes_device>{
      {"emulator", "stubdom", {"type", "cmdline", "memory", "kernel", "ramdisk"}},
      {"emulator", "stubdom-linux", {"type", "cmdline", "memory", "kernel", "ramdisk"}},
      {"graphics", "qubes", {"type", "domain", "log_level"}},
  };
  return all;
}

/// With nothing that even the libvirt of Qubes does not know.
bool is_of_qubes(const xml_node& x) {
  auto& rows = qubes_devices();
  auto row = std::ranges::find_if(rows, [&](auto& y) {
    return y.element == x.name() && y.type == x.attribute("type").value();
  });
  if (row == rows.end() || x.first_child())
    return false;
  for (auto y : x.attributes())
    if (std::ranges::find(row->attributes, std::string_view{y.name()}) == row->attributes.end())
      return false;
  return true;
}

void strip_devices(xml_node devices) {
  while (devices.remove_child(devices.find_child(is_of_qubes))) {
    // nop
  }
  for (auto disk : devices.children("disk"))
    disk.remove_child("script");
  for (auto it : devices.children("hostdev")) {
    it.remove_attribute("nostrictreset");
    it.child("source").remove_attribute("writeFiltering");
    it.child("source").remove_attribute("powerManagementFiltering");
  }
}

} // namespace

std::string for_schema(const std::string& domain) {
  auto whole = pugi::xml_document{};
  if (!whole.load_buffer(domain.data(), domain.size()))
    return domain;
  auto root = whole.child("domain");
  strip_devices(root.child("devices"));
  if (auto loader = root.child("os").child("loader"); loader.text().get() == firmware_of_xen)
    loader.text().set("/hvmloader"); // a path
  auto out = std::ostringstream{};
  whole.save(out, "", pugi::format_raw);
  return out.str();
}

outcome<merged_xml> merge_overlay(const std::string& domain, std::string_view overlay) {
  if (overlay.size() > max_overlay_bytes)
    return fail(errc::general, fmt::format("it has more than {} bytes", max_overlay_bytes));
  auto site = source::open(overlay, "it");
  if (!site)
    return tl::unexpected{std::move(site.error())};
  if (auto sound = check_root(*site); !sound)
    return tl::unexpected{std::move(sound.error())};
  auto whole = pugi::xml_document{};
  if (!whole.load_buffer(domain.data(), domain.size()))
    return fail(errc::internal, "the domain's own description is no XML");
  auto work = merging{};
  if (auto done = work.merge(whole.document_element(), site->root()); !done)
    return tl::unexpected{std::move(done.error())};
  auto out = std::ostringstream{};
  whole.save(out, "  ", pugi::format_default | pugi::format_no_declaration);
  return merged_xml{out.str(), std::move(work.skipped)};
}

} // namespace qubes::model::xml
