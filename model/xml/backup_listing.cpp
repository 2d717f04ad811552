#include "model/xml/backup_listing.hpp"

#include "model/base/klass.hpp"
#include "model/base/literal.hpp"
#include "model/base/name.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/source.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

namespace qubes::model::xml {

namespace {

/// What a restored domain has anew, or is told in another way.
constexpr std::array not_restored{"name", "label",  "template",        "qid",
                                  "uuid", "dispid", "installed_by_rpm"};

tl::unexpected<error> bad(std::string text) {
  return fail(errc::general, "qubes.xml of the backup: " + std::move(text));
}

std::string take(named_texts& from, std::string_view key) {
  auto found = std::ranges::find(from, key, &named_texts::value_type::first);
  if (found == from.end())
    return {};
  auto result = std::move(found->second);
  from.erase(found);
  return result;
}

named_texts texts_below(const pugi::xml_node& x, const char* list, const char* each) {
  auto result = named_texts{};
  for (auto node : x.child(list).children(each))
    result.emplace_back(attribute(node, "name"), has_attribute(node, "ref")
                                                     ? std::string{attribute(node, "ref")}
                                                     : text_of(node));
  return result;
}

std::string or_any(std::string_view text) {
  return std::string{text.empty() ? "*" : text};
}

std::vector<listed_device> devices_of(const pugi::xml_node& x) {
  auto result = std::vector<listed_device>{};
  for (auto list : x.children("devices"))
    for (auto node : list.children("device")) {
      auto next = listed_device{.klass = std::string{attribute(list, "class")},
                                .backend = or_any(attribute(node, "backend-domain")),
                                .port = or_any(attribute(node, "id")),
                                .identity = or_any(attribute(node, "identity")),
                                .mode = std::string{attribute(node, "mode")},
                                .options = {}};
      for (auto option : node.children("option"))
        next.options.emplace_back(attribute(option, "name"), text_of(option));
      if (auto old = take(next.options, "identity"); !old.empty())
        next.identity = old;
      if (has_attribute(node, "required"))
        next.mode =
            parse_boolean(attribute(node, "required")).value_or(true) ? "required" : "auto-attach";
      if (next.mode.empty())
        next.mode = "required";
      result.push_back(std::move(next));
    }
  return result;
}

std::vector<std::string> images_of(const pugi::xml_node& x) {
  auto result = std::vector<std::string>{};
  for (auto node : x.child("volume-config").children("volume"))
    if (attribute(node, "save_on_stop") == "True")
      result.emplace_back(attribute(node, "name"));
  return result;
}

bool is_folder(std::string_view path) {
  return !path.empty() && path.front() != '/' && path.find("..") == path.npos && is_plain_text(path)
         && path.find('\n') == path.npos;
}

outcome<listed_domain> read_listed(const pugi::xml_node& x, named_texts features) {
  auto result = listed_domain{.klass = std::string{attribute(x, "class")}};
  if (!find_klass(result.klass))
    return bad(fmt::format("there is no class {}", quoted(result.klass)));
  result.properties = texts_below(x, "properties", "property");
  result.name = result.klass == "AdminVM" ? "dom0" : take(result.properties, "name");
  if (auto good = domain_name::parse(result.name); !good)
    return bad(good.error().text);
  result.label = take(result.properties, "label");
  result.based_on = take(result.properties, "template");
  if (auto good =
          result.based_on.empty() ? outcome<domain_name>{} : domain_name::parse(result.based_on);
      !good)
    return bad(good.error().text);
  for (auto name : not_restored)
    take(result.properties, name);
  result.path = take(features, "backup-path");
  while (result.path.ends_with('/'))
    result.path.pop_back();
  if (!is_folder(result.path))
    return bad(
        fmt::format("'{}' has no folder in the archive: {}", result.name, quoted(result.path)));
  auto size = take(features, "backup-size");
  auto [end, failure] = std::from_chars(size.data(), size.data() + size.size(), result.bytes);
  if (failure != std::errc{} || end != size.data() + size.size())
    return bad(fmt::format("the size of '{}' is {}", result.name, quoted(size)));
  result.features = std::move(features);
  for (auto node : x.child("tags").children("tag"))
    result.tags.emplace_back(attribute(node, "name"));
  result.devices = devices_of(x);
  result.images = images_of(x);
  for (auto& it : result.images)
    if (it.empty() || it.find_first_of("/.\n+ ") != it.npos || !is_plain_text(it))
      return bad(fmt::format("'{}' has a volume {}", result.name, quoted(it)));
  return result;
}

/// Old files refer to labels by number.
std::string label_named(const pugi::xml_node& root, const std::string& text) {
  for (auto node : root.child("labels").children("label"))
    if (attribute(node, "id") == text)
      return text_of(node);
  return text;
}

} // namespace

outcome<std::vector<listed_domain>> read_backup_listing(std::string_view text) {
  auto opened = source::open(text, "qubes.xml of the backup");
  if (!opened)
    return tl::unexpected{std::move(opened.error())};
  auto root = opened->root();
  auto result = std::vector<listed_domain>{};
  auto names = std::set<std::string>{};
  auto paths = std::set<std::string>{};
  for (auto node : root.child("domains").children("domain")) {
    auto features = texts_below(node, "features", "feature");
    if (take(features, "backup-content").empty())
      continue;
    auto next = read_listed(node, std::move(features));
    if (!next)
      return tl::unexpected{std::move(next.error())};
    next->label = label_named(root, next->label);
    if (!names.insert(next->name).second)
      return bad(fmt::format("'{}' is there twice", next->name));
    if (!paths.insert(next->path).second)
      return bad(fmt::format("two domains have the folder '{}'", next->path));
    result.push_back(std::move(*next));
  }
  return result;
}

} // namespace qubes::model::xml
