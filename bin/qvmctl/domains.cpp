#include "bin/qvmctl/domains.hpp"

#include "bin/qvmctl/suggestion.hpp"
#include "drivers/io/json.hpp"
#include "model/base/literal.hpp"
#include "model/base/name.hpp"
#include "model/base/split.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <set>

namespace qubes::ctl {

namespace {

using nlohmann::json;

std::string text(const json& x, const char* key) {
  auto found = x.find(key);
  return found != x.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

std::optional<std::string> text_or_none(const json& x, const char* key) {
  auto result = text(x, key);
  return result.empty() ? std::nullopt : std::optional{std::move(result)};
}

std::optional<std::int64_t> number(const json& x, const char* key) {
  auto found = x.find(key);
  return found != x.end() && found->is_number_integer() ? std::optional{found->get<std::int64_t>()}
                                                        : std::nullopt;
}

bool flag(const json& x, const char* key) {
  auto found = x.find(key);
  return found != x.end() && found->is_boolean() && found->get<bool>();
}

entry parse_entry(const json& x) {
  return {.name = text(x, "name"),
          .klass = text(x, "class"),
          .state = text(x, "state"),
          .label = text(x, "label"),
          .color = text(x, "color"),
          .based_on = text_or_none(x, "template"),
          .netvm = text_or_none(x, "netvm"),
          .provides_network = flag(x, "provides_network"),
          .memory = number(x, "memory"),
          .maxmem = number(x, "maxmem"),
          .xid = number(x, "xid").value_or(-1),
          .uuid = text(x, "uuid"),
          .ip = text_or_none(x, "ip"),
          .kind = text_or_none(x, "kind"),
          .degraded = flag(x, "degraded"),
          .going_down = flag(x, "going_down")};
}

std::vector<std::string> names_of(const std::vector<entry>& some) {
  auto result = std::vector<std::string>{};
  for (auto& x : some)
    result.push_back(x.name);
  return result;
}

tl::unexpected<failure> broken(std::string text) {
  return tl::unexpected{
      failure{trouble::broken, "", std::move(text), "is it qvmd that serves it?"}};
}

} // namespace

expected<domain_list> domain_list::parse(std::string_view bytes) {
  auto tree = drivers::parse_json(bytes);
  auto list = tree.is_object() ? tree.find("domains") : tree.end();
  if (!tree.is_object() || list == tree.end() || !list->is_array())
    return broken("the daemon's overview is not what qvmctl understands");
  auto result = domain_list{};
  result.entries_.reserve(list->size());
  for (auto& x : *list)
    if (x.is_object())
      result.entries_.push_back(parse_entry(x));
  return result;
}

expected<domain_list> domain_list::parse_list(std::string_view text) {
  auto result = domain_list{};
  while (!text.empty()) {
    auto line = model::take_until(text, '\n');
    auto next = entry{};
    next.name = model::take_until(line, ' ');
    while (!line.empty()) {
      auto value = model::take_until(line, ' ');
      auto key = model::take_until(value, '=');
      if (key == "class")
        next.klass = value;
      else if (key == "state")
        next.state = value;
      else if (key == "uuid")
        next.uuid = value;
    }
    if (next.name.empty() || next.state.empty())
      return broken("the daemon's list of domains is not what qvmctl understands");
    result.entries_.push_back(std::move(next));
  }
  return result;
}

expected<domain_list> domain_list::fetch(client& from) {
  auto answer = from.ask({.method = "qvmd.Overview"});
  if (answer)
    return parse(*answer);
  if (answer.error().klass != "ProtocolError" && answer.error().klass != "PermissionDenied")
    return tl::unexpected{answer.error()};
  auto list = from.ask({.method = "admin.vm.List"});
  return list ? parse_list(*list) : tl::unexpected{list.error()};
}

const entry* domain_list::find(std::string_view name) const noexcept {
  if (name.starts_with("uuid:")) {
    name.remove_prefix(5);
    auto found =
        std::find_if(entries_.begin(), entries_.end(), [&](auto& x) { return x.uuid == name; });
    return found == entries_.end() ? nullptr : &*found;
  }
  auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](auto& x) { return x.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

expected<std::vector<const entry*>>
domain_list::choose(const std::vector<std::string>& words) const {
  auto result = std::vector<const entry*>{};
  auto seen = std::set<const entry*>{};
  auto take = [&](const entry& x) {
    if (seen.insert(&x).second)
      result.push_back(&x);
  };
  for (auto& word : words) {
    if (!is_glob(word)) {
      if (auto good = check_name(word); !good)
        return tl::unexpected{good.error()};
      auto found = find(word);
      if (!found)
        return tl::unexpected{no_such_domain(word, names_of(entries_))};
      take(*found);
      continue;
    }
    auto any = false;
    for (auto& x : entries_)
      if (x.name != "dom0" && matches_glob(word, x.name)) {
        take(x);
        any = true;
      }
    if (!any)
      return tl::unexpected{failure{trouble::refused, "",
                                    fmt::format("no domain matches '{}'", word),
                                    "'qvmctl ls' lists them"}};
  }
  return result;
}

expected<std::vector<const entry*>>
domain_list::all_but(const std::vector<std::string>& except) const {
  auto left_out = choose(except);
  if (!left_out)
    return left_out;
  auto result = std::vector<const entry*>{};
  for (auto& x : entries_)
    if (x.name != "dom0" && std::find(left_out->begin(), left_out->end(), &x) == left_out->end())
      result.push_back(&x);
  return result;
}

std::vector<const entry*> domain_list::clients_of(const entry& netvm) const {
  auto result = std::vector<const entry*>{};
  for (auto& x : entries_)
    if (x.netvm == netvm.name && x.active())
      result.push_back(&x);
  return result;
}

std::vector<const entry*> domain_list::netvms_of(const entry& x) const {
  auto result = std::vector<const entry*>{};
  for (auto next = &x; next->netvm;) {
    next = find(*next->netvm);
    if (!next || next == &x || std::find(result.begin(), result.end(), next) != result.end())
      break;
    result.push_back(next);
  }
  return result;
}

std::vector<const entry*> domain_list::with_clients(std::vector<const entry*> some) const {
  auto seen = std::set<const entry*>(some.begin(), some.end());
  for (auto i = std::size_t{0}; i < some.size(); ++i)
    for (auto x : clients_of(*some[i]))
      if (seen.insert(x).second)
        some.push_back(x);
  return some;
}

std::vector<std::vector<const entry*>>
domain_list::clients_first(const std::vector<const entry*>& some) const {
  // The level of a domain is one above the highest of the chosen domains that hang on it.
  auto level = std::map<const entry*, std::size_t>{};
  for (auto x : some)
    level[x] = 0;
  for (auto x : some) {
    auto below = level[x];
    for (auto above : netvms_of(*x))
      if (auto found = level.find(above); found != level.end()) {
        found->second = std::max(found->second, below + 1);
        below = found->second;
      }
  }
  auto result = std::vector<std::vector<const entry*>>{};
  for (auto x : some) {
    if (result.size() <= level[x])
      result.resize(level[x] + 1);
    result[level[x]].push_back(x);
  }
  return result;
}

bool matches_glob(const std::string& glob, const std::string& name) {
  return ::fnmatch(glob.c_str(), name.c_str(), 0) == 0;
}

std::vector<std::string> parts_of(std::string_view word) {
  auto result = std::vector<std::string>{""};
  auto in_brackets = false;
  for (auto x : word) {
    in_brackets = x == '[' || (in_brackets && x != ']');
    if (x == ',' && !in_brackets)
      result.emplace_back();
    else
      result.back() += x;
  }
  return result;
}

bool is_glob(std::string_view text) noexcept {
  return text.find_first_of("*?[") != std::string_view::npos;
}

expected<void> check_name(std::string_view text) {
  if (text.starts_with("uuid:"))
    return {};
  auto good = model::domain_name::parse(text);
  if (good)
    return {};
  return tl::unexpected{failure{trouble::usage, "", good.error().text, good.error().hint}};
}

expected<bool> means_none(std::string_view word, const domain_list& all) {
  if (model::lower_case(word) != "none")
    return false;
  if (!all.find(word))
    return true;
  return tl::unexpected{
      failure{trouble::usage, "",
              fmt::format("'{}' may mean no domain, and there is a domain of that name", word),
              fmt::format("'none' is no domain; 'qvmctl rename {} NAME' makes the other one "
                          "unmistakable",
                          word)}};
}

expected<bool> means_none(std::string_view word, client& daemon) {
  if (word == "none" || model::lower_case(word) != "none")
    return word == "none";
  auto all = domain_list::fetch(daemon);
  return all ? means_none(word, *all) : tl::unexpected{all.error()};
}

failure no_such_domain(std::string_view name, const std::vector<std::string>& known) {
  auto hint = did_you_mean(name, known);
  return {trouble::refused, "", fmt::format("no domain '{}'", name),
          hint.empty() ? "'qvmctl ls' lists them" : hint};
}

} // namespace qubes::ctl
