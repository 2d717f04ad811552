#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/base/vid.hpp"
#include "model/change/integrity.hpp"
#include "model/device/assignment_rules.hpp"
#include "model/property/feature_rules.hpp"
#include "model/storage/pool_driver.hpp"
#include "model/storage/volume.hpp"
#include "model/system/kept_entry.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/loading.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <set>

namespace qubes::model::xml {

namespace {

/// Booleans of volumes: exactly `True` or `False`.
std::optional<bool> strict_boolean(std::string_view text) {
  if (text == "True" || text == "False")
    return text == "True";
  return std::nullopt;
}

/// Older releases took any ASCII for the value of a feature, lines and tabs too.
bool is_ascii_text(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return is_printable(c) || c == '\n' || c == '\t' || c == '\r'; });
}

/// False where key or text makes no sense, and the volume is as it was.
bool read_volume_option(std::string_view key, std::string_view text, volume& to) {
  auto set = [](auto& field, auto parsed) {
    if (parsed)
      field = static_cast<std::decay_t<decltype(field)>>(*parsed);
    return parsed.has_value();
  };
  if (key == "pool")
    to.pool = text;
  else if (key == "vid")
    to.vid = text;
  else if (key == "source")
    to.source = text;
  else if (key == "revisions_to_keep")
    return set(to.revisions_to_keep, parse_count(text, "number of revisions", true));
  else if (key == "size")
    return set(to.size, parse_count(text, "size"));
  else if (key == "rw")
    return set(to.rw, strict_boolean(text));
  else if (key == "save_on_stop")
    return set(to.save_on_stop, strict_boolean(text));
  else if (key == "snap_on_start")
    return set(to.snap_on_start, strict_boolean(text));
  else if (key == "ephemeral")
    return set(to.ephemeral, strict_boolean(text));
  else if (key != "name" && key != "internal") // the latter meant something long ago
    return false;
  return true;
}

bool contains(const auto& all, const auto& x) {
  return std::ranges::find(all, x) != std::ranges::end(all);
}

template <class Test>
bool has_assignment(const domain& x, Test test) {
  return std::ranges::any_of(
      x.devices, [&](auto& list) { return std::ranges::any_of(list.assignments, test); });
}

bool assigns_port(const domain& x, std::string_view kind, std::string_view port) {
  auto all = std::ranges::find(x.devices, kind, &device_class::name);
  return all != x.devices.end()
         && std::ranges::find(all->assignments, port, &assignment::port) != all->assignments.end();
}

constexpr std::string_view device_attributes[]{"backend-domain", "id", "identity", "mode",
                                               "required"};

constexpr std::string_view volume_attributes[]{
    "name", "pool",         "vid",           "revisions_to_keep", "rw",
    "size", "save_on_stop", "snap_on_start", "ephemeral",         "source"};

std::string must_not_be(std::string_view text) {
  return fmt::format("it must not be {}", quoted(text));
}

bool is_spoilt(const std::vector<spoilt_attribute>& spoilt, std::string_view name) {
  return std::ranges::find(spoilt, name, &spoilt_attribute::name) != spoilt.end();
}

/// The words by which people find the element.
std::string called(const pugi::xml_node& x) {
  for (auto name : {"name", "id", "class"})
    if (has_attribute(x, name))
      return fmt::format("{} {}", x.name(), quoted(attribute(x, name)));
  return fmt::format("<{}>", x.name());
}

void note_lost(const pugi::xml_node& x, std::string_view what, const std::string& domain,
               report& notes) {
  auto text = fmt::format("{} of {}{} means nothing, and is lost at the next save", what, called(x),
                          domain.empty() ? "" : fmt::format(" of domain {}", quoted(domain)));
  notes.note(offset_of(x), finding{.text = std::move(text), .domain = domain, .until_saved = true});
}

/// An element that is written again gets more attributes, and has to be read again.
std::string too_many_attributes(const pugi::xml_node& x) {
  return std::ranges::distance(x.attributes()) <= max_kept_attributes
             ? std::string{}
             : fmt::format("has more than {} attributes", max_kept_attributes);
}

bool has_stray_text(const pugi::xml_node& x) {
  return text_of(x).find_first_not_of(" \t\r\n") != std::string::npos;
}

/// A value that was not understood has no say beside one that is understood.
void forget_kept(record& of, std::string_view property) {
  std::erase_if(of.value->kept, [&](auto& it) { return is_entry(it, "properties", property); });
}

/// Only a PCI card is at its place for good: at another port may be a device that its owner never
/// saw.
bool is_told_by_place(std::string_view kind, const assignment& x) {
  return kind == "pci" && x.port != "*";
}

/// What may stand once among the devices of a class.
std::string key_of(const assignment& x) {
  return fmt::format("{}+{}:{}", x.backend, x.port, x.identity);
}

} // namespace

std::string title_of_domain(const pugi::xml_node& x) {
  if (attribute(x, "class") == model::row(klass::admin).name)
    return "dom0";
  for (auto part : x.children("properties"))
    for (auto y : part.children("property"))
      if (attribute(y, "name") == "name")
        return text_of(y);
  return std::string{attribute(x, "id")};
}

void keep_entry(record& of, const problem& why, std::string_view wrapper, std::size_t entry,
                report& notes) {
  auto element = notes.element(entry);
  auto tag = wrapper.substr(0, wrapper.find(' '));
  auto text =
      wrapper.empty() ? std::string{element} : fmt::format("<{}>{}</{}>", wrapper, element, tag);
  auto is_kept = [text](const domain& x) {
    return std::ranges::find(x.kept, text) != x.kept.end();
  };
  notes.note(why.at,
             fmt::format("an entry of domain {} has no effect: {}", quoted(of.title), why.reason),
             of.title, std::move(is_kept));
  of.value->kept.push_back(std::move(text));
}

bool may_go_without(std::string_view kind, std::string_view option) {
  return kind != "block" || option == "read-only" || option == "frontend-dev";
}

void keep_option(const record& of, std::string_view kind, device_entry& to, std::string_view name,
                 const problem& why, std::size_t element, report& notes) {
  auto& x = to.value;
  auto text = std::string{notes.element(element)};
  auto guards = kind == "block" && name == "read-only";
  notes.note(why.at,
             fmt::format("an entry of {} device {} of domain {} {}: {}", kind, quoted(x.port),
                         quoted(of.title), guards ? "makes it read-only" : "has no effect",
                         why.reason),
             of.title, [text](const domain& now) {
               return has_assignment(now, [&](auto& it) { return contains(it.kept, text); });
             });
  std::erase_if(x.options, [&](auto& it) { return it.first == name; });
  if (guards)
    x.options.emplace(x.options.begin(), name, "yes");
  x.kept.push_back(std::move(text));
}

std::vector<std::string> keep_inside(const pugi::xml_node& x, std::string_view what,
                                     const std::string& domain, report& notes) {
  auto result = std::vector<std::string>{};
  for (auto y : x.children())
    if (is_element(y)) {
      auto text = fmt::format("the element {} inside of {} has no effect", quoted(y.name()), what);
      if (domain.empty())
        notes.note(offset_of(y), std::move(text));
      else
        notes.note(offset_of(y), std::move(text), domain);
      result.emplace_back(notes.element(offset_of(y)));
    }
  return result;
}

std::string trouble_of(const pugi::xml_node& x, const std::vector<spoilt_attribute>& spoilt,
                       const char* name) {
  auto missing = !has_attribute(x, name);
  for (auto& y : spoilt)
    if (y.name == name || (missing && !y.is_named))
      return y.reason;
  return {};
}

void note_lost_attributes(const pugi::xml_node& x, std::initializer_list<std::string_view> known,
                          const std::string& domain, report& notes) {
  for (auto y : x.attributes())
    if (!contains(known, std::string_view{y.name()}) || x.attribute(y.name()) != y)
      note_lost(x, fmt::format("attribute {}", quoted(y.name())), domain, notes);
}

void note_lost_text(const pugi::xml_node& x, const std::string& domain, report& notes) {
  if (has_stray_text(x))
    note_lost(x, "the text inside", domain, notes);
}

void note_lost_beside_elements(const pugi::xml_node& x,
                               std::initializer_list<std::string_view> known,
                               const std::string& domain, report& notes) {
  note_lost_attributes(x, known, domain, notes);
  note_lost_text(x, domain, notes);
}

std::string devices_of_class(std::string_view name) {
  auto result = std::string{"devices"};
  append_attribute(result, "class", name);
  return result;
}

void domain_reader::keep(record& to, const problem& why, std::string_view wrapper,
                         const pugi::xml_node& x) {
  keep_entry(to, why, wrapper, offset_of(x), notes_);
}

verdict domain_reader::tolerate(record& to, verdict read, std::string_view wrapper,
                                const pugi::xml_node& x) {
  if (read || to.value->type != klass::admin)
    return read;
  keep(to, read.error(), wrapper, x);
  return {};
}

record domain_reader::read(const pugi::xml_node& x) {
  auto result = record{};
  result.at = offset_of(x);
  result.title = title_of_domain(x);
  if (auto read = read_all(x, result); !read)
    result.trouble = read.error();
  return result;
}

verdict domain_reader::read_all(const pugi::xml_node& x, record& to) {
  if (auto read = read_class(x, to); !read)
    return read;
  note_lost_beside_elements(x, {"id", "class"}, to.title, notes_);
  for (auto part : x.children()) {
    if (!is_element(part))
      continue;
    auto tag = std::string_view{part.name()};
    auto read = verdict{};
    if (tag == "properties")
      read = read_properties(part, to);
    else if (tag == "features")
      read_features(part, to);
    else if (tag == "tags")
      read_tags(part, to);
    else if (tag == "devices" && to.value->is(local_vm) && has_attribute(part, "class"))
      read_devices(part, to);
    else if (tag == "volume-config" && to.value->is(qubes_vm))
      read_volumes(part, to);
    else
      keep(to, {offset_of(part), fmt::format("its class has no element {}", quoted(tag))}, "",
           part);
    if (!read)
      return read;
  }
  for (auto& [name, stored] : to.old_values) // what is set in the new way wins
    if (to.value->properties.try_emplace(name, stored).second)
      forget_kept(to, name);
  migrate_services(to);
  return read_identity(to);
}

verdict domain_reader::read_class(const pugi::xml_node& x, record& to) {
  if (!has_attribute(x, "class"))
    return because(to.at, "it has no class");
  auto type = find_klass(attribute(x, "class"));
  if (!type)
    return because(to.at, fmt::format("there is no class {}", quoted(attribute(x, "class"))));
  to.value->type = *type;
  return {};
}

// -- properties -----------------------------------------------------------------------------------

verdict domain_reader::read_properties(const pugi::xml_node& x, record& to) {
  note_lost_beside_elements(x, {}, to.title, notes_);
  for (auto y : x.children()) {
    if (!is_element(y))
      continue;
    auto read = verdict{};
    if (y.name() == std::string_view{"property"})
      read = tolerate(to, read_property(y, to), "properties", y);
    else
      keep(to, {offset_of(y), fmt::format("<properties> has no element {}", quoted(y.name()))},
           "properties", y);
    if (!read)
      return read;
  }
  return {};
}

/// What tells a domain from others to programs alone: another one does as well.
bool is_number(std::string_view property) {
  return property == "qid" || property == "uuid";
}

bool is_identifying(std::string_view property) {
  return is_identity(property) || property == "template";
}

std::optional<value> stand_in(std::string_view property, const model::system& all) {
  for (auto guarding : {"netvm", "guivm", "audiovm", "default_dispvm", "management_dispvm"})
    if (property == guarding)
      return none{};
  if (property == "provides_network" || property == "template_for_dispvms")
    return true;
  if (property == "label" && !all.labels.empty())
    return all.labels.front().name;
  return std::nullopt;
}

verdict domain_reader::read_property(const pugi::xml_node& x, record& to) {
  auto name = attribute(x, "name");
  auto read = try_property(x, to);
  if (!read && is_number(name)) {
    notes_.note(
        read.error().at,
        fmt::format("{} of domain {} is none: {}", name, quoted(to.title), read.error().reason),
        to.title);
    to.migrated = true;
    return {};
  }
  if (read || is_identifying(name))
    return read;
  keep(to, read.error(), "properties", x);
  // Of two the last one holds, even if it is not understood.
  to.references.erase(std::string{name});
  to.value->properties.erase(std::string{name});
  if (auto instead = stand_in(name, view_.system))
    to.value->properties.emplace(std::string{name}, std::move(*instead));
  return {};
}

verdict domain_reader::try_property(const pugi::xml_node& x, record& to) {
  auto at = offset_of(x);
  auto name = attribute(x, "name");
  if (auto damage = notes_.damage(at))
    return because(damage->at, fmt::format("property {}: {}", quoted(name), damage->reason));
  if ((name == "hvm" && to.value->is(qubes_vm))
      || (name == "dispvm_allowed" && to.value->is(app_vm)))
    return read_old_property(x, to, name);
  auto row = rows_.find(model::row(to.value->type).bit, name);
  if (!row || !row->saved) {
    keep(to,
         {at, fmt::format("{} has no property {} that can be set", model::row(to.value->type).name,
                          quoted(name))},
         "properties", x);
    return {};
  }
  if (has_children(x))
    return because(at, fmt::format("property '{}' has elements inside", name));
  auto referred = has_attribute(x, "ref");
  auto text = referred ? std::string{attribute(x, "ref")} : text_of(x);
  auto parsed = load_property({view_, nullptr}, *row, text);
  if (!parsed)
    return because(at, fmt::format("property '{}': {}", name, parsed.error().message()));
  note_lost_attributes(x, {"name", "ref"}, to.title, notes_);
  if (row->type == wire_type::domain)
    to.references.insert_or_assign(std::string{name}, at);
  if (referred && row->type == wire_type::domain)
    to.respelt.emplace_back(name);
  else if (referred || (row->type == wire_type::label && to_text(*parsed) != text))
    to.migrated = true;
  forget_kept(to, name);
  // Files are sorted, so that the place is nearly always the end.
  auto& all = to.value->properties;
  auto known = all.size();
  auto place = all.try_emplace(all.end(), std::string{name}, *parsed);
  if (all.size() == known && place->second != *parsed) {
    if (name == "name")
      return because(at, fmt::format("property '{}' is given twice", name));
    notes_.note(at,
                fmt::format("property '{}' of domain {} is given twice, the last one holds", name,
                            quoted(to.title)),
                to.title);
    place->second = std::move(*parsed);
  }
  return {};
}

verdict domain_reader::read_old_property(const pugi::xml_node& x, record& to,
                                         std::string_view name) {
  auto set = parse_boolean(text_of(x));
  if (!set)
    return because(offset_of(x),
                   fmt::format("property '{}' is {}, no boolean", name, quoted(text_of(x))));
  if (name == "hvm")
    to.old_values.emplace("virt_mode", std::string{*set ? "hvm" : "pv"});
  else
    to.old_values.emplace("template_for_dispvms", *set);
  to.migrated = true;
  return {};
}

verdict domain_reader::read_identity(record& to) {
  auto& y = *to.value;
  if (y.type == klass::admin) {
    y.name = *domain_name::parse("dom0");
    y.uuid = dom0_uuid;
    return {};
  }
  auto name = y.properties.find("name");
  if (name == y.properties.end())
    return because(to.at, "it has no name");
  auto parsed = domain_name::parse(to_text(name->second));
  if (!parsed)
    return because(to.at, parsed.error().text);
  if (parsed->is_dom0())
    return because(to.at, "only the AdminVM may be called dom0");
  y.name = std::move(*parsed);
  auto qid = y.properties.find("qid");
  auto number = qid == y.properties.end() ? nullptr : std::get_if<std::int64_t>(&qid->second);
  if (number && *number >= 1 && *number <= highest_qid)
    y.qid = *number;
  else if (number)
    notes_.note(to.at,
                fmt::format("qid of domain {} is none: it is {}, not one of 1 to {}",
                            quoted(to.title), *number, highest_qid),
                to.title);
  if (auto uuid = y.properties.find("uuid"); uuid != y.properties.end())
    y.uuid = to_text(uuid->second);
  return {};
}

// -- features and tags ----------------------------------------------------------------------------

void domain_reader::read_features(const pugi::xml_node& x, record& to) {
  note_lost_beside_elements(x, {}, to.title, notes_);
  for (auto y : x.children()) {
    if (!is_element(y))
      continue;
    if (y.name() != std::string_view{"feature"})
      keep(to, {offset_of(y), fmt::format("<features> has no element {}", quoted(y.name()))},
           "features", y);
    else if (auto checked = check_feature_name(attribute(y, "name")); !checked)
      keep(to, {offset_of(y), checked.error().text}, "features", y);
    else if (auto read = read_feature(y, to); !read)
      keep(to, read.error(), "features", y);
  }
}

verdict domain_reader::read_feature(const pugi::xml_node& x, record& to) {
  auto at = offset_of(x);
  auto name = attribute(x, "name");
  if (auto damage = notes_.damage(at))
    return because(damage->at, fmt::format("feature {}: {}", quoted(name), damage->reason));
  if (has_children(x))
    return because(at, fmt::format("feature {} has elements inside", quoted(name)));
  auto text = text_of(x);
  if (!is_ascii_text(text))
    return because(at, fmt::format("the value of feature {} is not ASCII", quoted(name)));
  if (auto sound = check_feature_text(*to.value, name, text); !sound)
    return because(at, sound.error().text);
  if (to.value->features.find(name))
    notes_.note(at,
                fmt::format("feature {} of domain {} is given twice, the last one holds",
                            quoted(name), quoted(to.title)),
                to.title);
  else if (to.value->features.size() == features::most)
    return because(at, fmt::format("it has more than {} features", features::most));
  note_lost_attributes(x, {"name"}, to.title, notes_);
  to.value->features.set(name, std::move(text));
  return {};
}

/// The old switch of memory balancing became the property maxmem (spec/features.md §4). Only "off"
/// says something: balancing is the default.
void domain_reader::migrate_services(record& to) {
  constexpr auto old = "service.meminfo-writer";
  auto text = to.value->features.find(old);
  if (!text || !to.value->is(qubes_vm))
    return;
  if (text->empty()) {
    to.value->properties.insert_or_assign("maxmem", std::int64_t{0});
    forget_kept(to, "maxmem");
  }
  to.value->features.remove(old);
  to.migrated = true;
}

void domain_reader::read_tags(const pugi::xml_node& x, record& to) {
  note_lost_beside_elements(x, {}, to.title, notes_);
  for (auto y : x.children()) {
    if (!is_element(y))
      continue;
    auto name = attribute(y, "name");
    if (y.name() != std::string_view{"tag"})
      keep(to, {offset_of(y), fmt::format("<tags> has no element {}", quoted(y.name()))}, "tags",
           y);
    else if (auto damage = notes_.damage(offset_of(y)))
      keep(to, {damage->at, damage->reason}, "tags", y);
    else if (auto checked = check_tag(name); !checked)
      keep(to, {offset_of(y), checked.error().text}, "tags", y);
    else if (to.value->tags.emplace(name); has_children(y) || has_stray_text(y))
      keep(to, {offset_of(y), fmt::format("what is inside of tag {}", quoted(name))}, "tags", y);
    else if (std::ranges::distance(y.attributes()) > 1)
      keep(to, {offset_of(y), fmt::format("what tag {} says beside its name", quoted(name))},
           "tags", y);
  }
}

// -- devices --------------------------------------------------------------------------------------

void domain_reader::read_devices(const pugi::xml_node& x, record& to) {
  if (auto why = trouble_of(x, notes_.spoilt(x), "class"); !why.empty())
    return keep(to, {offset_of(x), fmt::format("the class of devices: {}", why)}, "", x);
  note_lost_beside_elements(x, {"class"}, to.title, notes_);
  auto name = std::string{attribute(x, "class")};
  auto& all = to.value->devices;
  auto list = std::ranges::find(all, name, &device_class::name);
  if (list == all.end())
    list = all.insert(list, device_class{name, {}});
  auto index = static_cast<std::size_t>(list - all.begin());
  auto wrapper = devices_of_class(name);
  for (auto y : x.children()) {
    if (!is_element(y))
      continue;
    auto read = read_device(y, name, to);
    if (read && !to.device_keys.emplace(index, key_of(read->value)).second)
      read = because(read->at, fmt::format("{} device {} is assigned twice", name,
                                           quoted(key_of(read->value))));
    if (read) {
      read->list = index;
      to.devices.push_back(std::move(*read));
    } else {
      keep(to, read.error(), wrapper, y);
    }
  }
}

tl::expected<device_entry, problem>
domain_reader::read_device(const pugi::xml_node& x, std::string_view kind, const record& of) {
  auto at = offset_of(x);
  if (x.name() != std::string_view{"device"})
    return because(at, fmt::format("<devices> has no element {}", quoted(x.name())));
  if (auto many = too_many_attributes(x); !many.empty())
    return because(at, fmt::format("a {} device {}", kind, many));
  auto spoilt = notes_.spoilt(x);
  for (auto key : {"backend-domain", "id"}) // the device would not be known
    if (auto why = trouble_of(x, spoilt, key); !why.empty())
      return because(at, fmt::format("{} of a {} device: {}", key, kind, why));
  auto result = device_entry{};
  result.at = at;
  auto& to = result.value;
  auto backend = attribute(x, "backend-domain");
  if (backend.empty()) // not the same as any of them
    return because(at, fmt::format("a device of class {} has no backend", quoted(kind)));
  if (backend != "*")
    to.backend = backend;
  if (has_attribute(x, "id"))
    to.port = attribute(x, "id");
  auto refuse = [&](std::string_view what, std::string_view why) {
    return because(at, fmt::format("{} device {}: {}: {}", kind, quoted(to.port), what, why));
  };
  if (auto why = trouble_of(x, spoilt, "identity"); why.empty()) {
    if (auto identity = attribute(x, "identity"); !identity.empty())
      to.identity = identity;
  } else if (!is_told_by_place(kind, to)) {
    return refuse("identity", why);
  }
  if (auto read = read_mode(x, spoilt, kind, of, result); !read)
    return tl::unexpected{read.error()};
  for (auto& y : spoilt) {
    auto known = contains(device_attributes, y.name);
    if (!known && !may_go_without(kind, y.name))
      return refuse(quoted(y.name), y.reason);
    keep_attribute(kind, of, result, y.name, y.text, y.reason);
  }
  for (auto y : x.attributes())
    if (!contains(device_attributes, std::string_view{y.name()}) && !is_spoilt(spoilt, y.name()))
      keep_attribute(kind, of, result, y.name(), escaped(y.value()), "devices have none");
  note_lost_text(x, of.title, notes_);
  for (auto y : x.children()) {
    auto read = is_element(y) ? read_option(y, of, result) : verdict{};
    if (read)
      continue;
    auto name = attribute(y, "name");
    if (!may_go_without(kind, name) || (name == "identity" && !is_told_by_place(kind, to)))
      return because(read.error().at,
                     fmt::format("{} device {}: {}", kind, quoted(to.port), read.error().reason));
    keep_option(of, kind, result, name, read.error(), offset_of(y), notes_);
  }
  check_identity(kind, of, result);
  if (kind == "pci")
    place_pci(result, of);
  return result;
}

/// What an option means, and whether a device has it, is looked at when the backend is known.
verdict domain_reader::read_option(const pugi::xml_node& x, const record& of, device_entry& to) {
  auto at = offset_of(x);
  auto name = std::string{attribute(x, "name")};
  if (x.name() != std::string_view{"option"})
    return because(at, fmt::format("<device> has no element {}", quoted(x.name())));
  if (auto damage = notes_.damage(at))
    return because(damage->at, fmt::format("option {}: {}", quoted(name), damage->reason));
  if (name.empty())
    return because(at, "an option has no name");
  if (has_children(x))
    return because(at, fmt::format("option {} has elements inside", quoted(name)));
  note_lost_attributes(x, {"name"}, of.title, notes_);
  auto& all = to.value.options;
  auto known = std::ranges::find(all, name, [](auto& it) { return it.first; });
  auto twice = !to.options.insert_or_assign(name, at).second;
  twice |= std::erase_if(to.value.kept, [&](auto& it) { return is_named(it, "option", name); }) > 0;
  if (twice)
    notes_.note(
        at,
        fmt::format("option {} of device {} of domain {} is given twice, the last one holds",
                    quoted(name), quoted(to.value.port), quoted(of.title)),
        of.title);
  if (name == "identity") {
    to.value.identity = text_of(x);
    to.migrated = true;
  } else if (known != all.end()) {
    known->second = text_of(x);
  } else {
    all.emplace_back(std::move(name), text_of(x));
  }
  return {};
}

void domain_reader::check_identity(std::string_view kind, const record& of, device_entry& to) {
  auto& x = to.value;
  if (!is_told_by_place(kind, x) || is_device_identity(kind, x.identity))
    return;
  keep_attribute(kind, of, to, "identity", escaped(x.identity), must_not_be(x.identity));
  x.identity = "*";
}

/// The attribute is told of once, where it is given twice as well.
void domain_reader::keep_attribute(std::string_view kind, const record& of, device_entry& to,
                                   std::string_view key, std::string written,
                                   std::string_view why) {
  auto& all = to.value.unknown;
  auto known = contains(device_attributes, key);
  auto pair = std::pair{std::string{key}, std::move(written)};
  if (!has_key(all, key))
    notes_.note(to.at,
                fmt::format("{} of {} device {} of domain {} {}: {}",
                            known ? std::string{key} : quoted(key), kind, quoted(to.value.port),
                            quoted(of.title), known ? "is as by default" : "has no effect", why),
                of.title, [pair](const domain& now) {
                  return has_assignment(now, [&](auto& it) { return contains(it.unknown, pair); });
                });
  all.push_back(std::move(pair));
}

/// Files before release 4.3 name PCI devices by address.
void domain_reader::place_pci(device_entry& to, const record& of) {
  auto& here = view_.machine.pci;
  auto port = pci_port(here, to.value.port);
  if (port != to.value.port) {
    to.value.port = std::move(port);
    to.migrated = true;
  } else if (is_unplaced(here, port)) {
    notes_.note(to.at,
                fmt::format("pci device {} of domain {} is an address of no device here",
                            quoted(port), quoted(of.title)),
                of.title, [port](const domain& x) { return assigns_port(x, "pci", port); });
  }
}

/// PCI devices come at the start or not at all. Of others it is not known whether their owner wants
/// to be asked first.
verdict domain_reader::read_mode(const pugi::xml_node& x,
                                 const std::vector<spoilt_attribute>& spoilt, std::string_view kind,
                                 const record& of, device_entry& to) {
  auto old = has_attribute(x, "required");
  auto refuse = [&](const char* key, std::string_view why) -> verdict {
    if (kind != "pci")
      return because(to.at, fmt::format("device {}: {}: {}", quoted(to.value.port), key, why));
    auto other = key == std::string_view{"mode"} ? "required" : "mode";
    if (has_attribute(x, key) && !is_spoilt(spoilt, key))
      keep_attribute(kind, of, to, key, escaped(attribute(x, key)), why);
    if (has_attribute(x, other) && !is_spoilt(spoilt, other)) // nor does it count then
      to.value.unknown.emplace_back(other, escaped(attribute(x, other)));
    return {};
  };
  for (auto key : {"required", "mode"})
    if (has_attribute(x, key) || (!old && key == std::string_view{"mode"}))
      if (auto why = trouble_of(x, spoilt, key); !why.empty())
        return refuse(key, why);
  auto mode = attribute(x, "mode");
  if (old) {
    auto required = parse_boolean(attribute(x, "required"));
    if (!required)
      return refuse("required", must_not_be(attribute(x, "required")));
    to.value.mode = *required ? assignment_mode::required : assignment_mode::auto_attach;
    to.migrated = true;
  } else if (mode == "auto-attach") {
    to.value.mode = assignment_mode::auto_attach;
  } else if (mode == "ask-to-attach") {
    to.value.mode = assignment_mode::ask_to_attach;
  } else if (!mode.empty() && mode != "required") {
    return refuse("mode", must_not_be(mode));
  }
  return {};
}

// -- volumes --------------------------------------------------------------------------------------

/// A volume that cannot be used stays in the file; its domain is there, and does not start.
void domain_reader::read_volumes(const pugi::xml_node& x, record& to) {
  note_lost_beside_elements(x, {}, to.title, notes_);
  for (auto y : x.children()) {
    if (!is_element(y))
      continue;
    auto read = y.name() == std::string_view{"volume"}
                    ? read_volume(y, to)
                    : because(offset_of(y),
                              fmt::format("<volume-config> has no element {}", quoted(y.name())));
    if (!read)
      keep(to, read.error(), "volume-config", y);
  }
}

verdict domain_reader::read_volume(const pugi::xml_node& x, record& to) {
  auto at = offset_of(x);
  auto name = attribute(x, "name");
  auto refuse = [&](std::string_view why, std::string_view what) {
    return because(at, fmt::format("volume {}: {} {}", quoted(name), why, quoted(what)));
  };
  if (auto many = too_many_attributes(x); !many.empty())
    return because(at, fmt::format("volume {} {}", quoted(name), many));
  auto spoilt = notes_.spoilt(x);
  for (auto key : {"name", "pool", "vid"})
    if (auto why = trouble_of(x, spoilt, key); !why.empty())
      return because(at, fmt::format("volume {}: {}: {}", quoted(name), key, why));
  if (!check_pool_name(name))
    return refuse("the name must be of letters, digits, '-', '_' and '.', not", name);
  if (to.value->find_volume(name))
    return because(at, fmt::format("volume {} is given twice", quoted(name)));
  auto home = view_.system.find_pool(attribute(x, "pool"));
  if (!home)
    return refuse("there is no pool", attribute(x, "pool"));
  if (attribute(x, "vid").empty() && !(name == "kernel" && has_attribute(x, "vid")))
    return refuse("it has no", "vid");
  auto at_home = check_home(*home, name);
  auto elsewhere = at_home || is_fixed(*home) ? nullptr : pool_of_kernels(view_.system);
  if (!at_home && !elsewhere)
    return because(at, at_home.error().text);
  auto result = default_volume(to.value->type, name);
  auto tell = [&](std::string_view key, std::string_view why) {
    auto known = contains(volume_attributes, key);
    auto is_written = [name = result.name, key = std::string{key}](const domain& x) {
      auto* now = x.find_volume(name);
      return now && has_key(now->unknown, key);
    };
    notes_.note(at,
                fmt::format("{} of volume {} of domain {} {}: {}",
                            known ? std::string{key} : quoted(key), quoted(name), quoted(to.title),
                            known ? "is as by default there" : "has no effect", why),
                to.title, std::move(is_written));
  };
  auto as_written = [&](const char* key, std::string_view why) {
    if (has_key(result.unknown, key))
      return;
    tell(key, why);
    if (has_attribute(x, key))
      result.unknown.emplace_back(key, escaped(attribute(x, key)));
  };
  for (auto y : x.attributes())
    if (!is_spoilt(spoilt, y.name()) && !read_volume_option(y.name(), y.value(), result))
      as_written(y.name(), contains(volume_attributes, std::string_view{y.name()})
                               ? must_not_be(y.value())
                               : "volumes have none");
  if (auto why = trouble_of(x, spoilt, "source");
      !why.empty() && (has_attribute(x, "source") || result.snap_on_start))
    return because(at, fmt::format("volume {}: source: {}", quoted(name), why));
  for (auto& y : spoilt) {
    if (!has_key(result.unknown, y.name))
      tell(y.name, y.reason);
    result.unknown.emplace_back(y.name, y.text);
  }
  for (auto key : {"vid", "source"}) // the place of the data would not be known
    if (auto text = attribute(x, key); !is_safe_vid(text))
      return refuse(fmt::format("{} must not be", key), text);
  if (elsewhere) { // which kernel it is, its property says
    home = elsewhere;
    result.pool = home->name;
    as_written("pool", at_home.error().text);
    as_written("vid", at_home.error().text);
  }
  if (auto sound = check_kept_revisions(*home, result.revisions_to_keep); !sound) {
    auto most = std::max(most_revisions(*home), std::int64_t{0});
    result.revisions_to_keep = std::clamp(result.revisions_to_keep, std::int64_t{0}, most);
    as_written("revisions_to_keep", sound.error().text);
  }
  if (auto sound = check_writable(*home, result.rw); !sound) {
    result.rw = false;
    as_written("rw", sound.error().text);
  }
  if (auto ephemeral = result.ephemeral)
    if (auto sound = check_ephemeral(*home, result, *ephemeral); !sound) {
      result.ephemeral.reset();
      as_written("ephemeral", sound.error().text);
    }
  note_lost_text(x, to.title, notes_);
  result.kept = keep_inside(
      x, fmt::format("volume {} of domain {}", quoted(name), quoted(to.title)), to.title, notes_);
  to.value->volumes.push_back(std::move(result));
  return {};
}

} // namespace qubes::model::xml
