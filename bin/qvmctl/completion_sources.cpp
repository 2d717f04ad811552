// What may stand where: a row for each name of a word in the tables of commands and options.
#include "bin/qvmctl/completion_sources.hpp"

#include "bin/qvmctl/help.hpp"
#include "bin/qvmctl/listing.hpp"
#include "bin/qvmctl/profiles.hpp"
#include "bin/qvmctl/report.hpp"
#include "drivers/io/json.hpp"
#include "model/base/power.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace qubes::ctl {

candidates words(std::initializer_list<std::string_view> all) {
  auto result = candidates{};
  for (auto x : all)
    result.push_back({std::string{x}});
  return result;
}

candidates firsts(std::string_view text) {
  auto result = candidates{};
  for (auto& x : lines_of(text))
    result.push_back({x.substr(0, x.find(' '))});
  return result;
}

candidates list(const place& at, std::string method) {
  return firsts(at.ask({.method = std::move(method)}));
}

// -- domains ------------------------------------------------------------------------------------

domain_list known_domains(const place& at, std::string method) {
  auto text = at.ask({.method = method});
  auto all = method == "qvmd.Overview" ? domain_list::parse(text) : domain_list::parse_list(text);
  return all.value_or(domain_list{});
}

namespace {

template <class Fits>
candidates domains_that(const place& at, const Fits& fit) {
  auto result = candidates{};
  auto all = known_domains(at, "qvmd.Overview");
  for (auto& x : all.all())
    if (fit(x))
      result.push_back({x.name, fmt::format("{} {}", x.state, x.klass)});
  return result;
}

} // namespace

candidates domains(const place& at) {
  auto result = candidates{};
  auto all = known_domains(at, "admin.vm.List");
  for (auto& x : all.all())
    result.push_back({x.name, fmt::format("{} {}", x.state, x.klass)});
  return result;
}

candidates templates(const place& at) {
  return domains_that(at, [](auto& x) { return x.klass == "TemplateVM"; });
}

candidates or_none(candidates all) {
  all.push_back({"none", "no domain"});
  return all;
}

candidates netvms(const place& at) {
  return or_none(domains_that(at, [](auto& x) { return x.provides_network; }));
}

candidates disposable_templates(const place& at) {
  auto all = domains(at);
  auto asked = std::vector<request>{};
  for (auto& x : all)
    asked.push_back(property_request("Get", x.word, "template_for_dispvms"));
  auto result = candidates{};
  auto answers = at.ask(asked);
  for (auto i = std::size_t{0}; i < all.size(); ++i)
    if (auto serves = parse_property(answers[i]); serves && serves->text == "True")
      result.push_back(std::move(all[i]));
  return result;
}

candidates pools(const place& at) {
  return list(at, "admin.pool.List");
}

candidates labels(const place& at) {
  return list(at, "admin.label.List");
}

candidates booleans(const place&) {
  return words({"True", "False"});
}

namespace {

candidates templates_of_disposables(const place& at) {
  auto result = disposable_templates(at);
  result.push_back({"default", "the host's default_dispvm"});
  return result;
}

candidates templates_for_new(const place& at) {
  auto of_disposable = std::ranges::any_of(
      at.line.given, [](auto& x) { return x.first->id == opt_class && x.second == "DispVM"; });
  return of_disposable ? disposable_templates(at) : templates(at);
}

// -- what a domain has --------------------------------------------------------------------------

candidates features(const place& at) {
  return firsts(at.ask({"admin.vm.feature.List", "", at.word(0), ""}));
}

candidates services(const place& at) {
  auto result = candidates{};
  for (auto prefix : {"service.", "supported-service."})
    for (auto& x : features(at))
      if (x.word.starts_with(prefix))
        result.push_back({x.word.substr(std::string_view{prefix}.size())});
  return result;
}

/// Of the domain that may lose one; else of all of them.
candidates tags(const place& at) {
  auto asked = std::vector<request>{};
  if (at.line.what && at.line.what->name == "tag del")
    asked.push_back({"admin.vm.tag.List", "", at.word(0), ""});
  else
    for (auto& x : domains(at))
      asked.push_back({"admin.vm.tag.List", "", x.word, ""});
  auto result = candidates{};
  for (auto& x : at.ask(asked))
    std::ranges::move(firsts(x), std::back_inserter(result));
  return result;
}

candidates rules(const place& at) {
  auto answer = at.ask({"admin.vm.firewall.Get", "", at.word(0), ""});
  auto result = candidates{};
  for (auto& x : lines_of(answer))
    result.push_back({fmt::format("{}", result.size() + 1), x});
  return result;
}

candidates volumes(const place& at) {
  auto colon = at.typed.find(':');
  auto result = candidates{};
  if (colon == at.typed.npos) {
    result = domains(at);
    for (auto& x : result)
      x.word += ':';
    return result;
  }
  auto domain = std::string{at.typed.substr(0, colon)};
  for (auto& x : lines_of(at.ask({"admin.vm.volume.List", "", domain, ""})))
    result.push_back({fmt::format("{}:{}", domain, x)});
  return result;
}

candidates revisions(const place& at) {
  auto volume = at.word(0);
  auto colon = std::min(volume.find(':'), volume.size());
  auto name = volume.substr(std::min(colon + 1, volume.size()));
  return firsts(at.ask({"admin.vm.volume.ListSnapshots", name, volume.substr(0, colon), ""}));
}

// -- devices ------------------------------------------------------------------------------------

candidates device_classes(const place& at) {
  return list(at, "admin.deviceclass.List");
}

/// Offered by domains that run, or what the domain has already.
candidates devices(std::string_view how, const place& at) {
  auto method = fmt::format("admin.vm.device.{}.{}", at.word(1), how);
  auto asked = std::vector<request>{};
  auto all = how == "Available" ? known_domains(at, "admin.vm.List") : domain_list{};
  if (how != "Available")
    asked.push_back({method, "", at.word(0), ""});
  for (auto& x : all.all())
    if (x.active())
      asked.push_back({method, "", x.name, ""});
  auto result = candidates{};
  for (auto& answer : at.ask(asked))
    for (auto& line : lines_of(answer)) {
      auto facts = parse_serialized(line.substr(std::min(line.find(' '), line.size())));
      auto about = std::string{};
      for (auto key : {"vendor", "product", "name"})
        if (auto value = value_of(facts, key); !value.empty())
          about += (about.empty() ? "" : " ") + value;
      result.push_back(
          {fmt::format("{}:{}", value_of(facts, "backend_domain"), value_of(facts, "port_id")),
           about});
    }
  return result;
}

/// Interfaces without the stars at their ends, which `allow` adds again.
candidates denied(const place& at) {
  auto result = firsts(at.ask({"admin.vm.device.denied.List", "", at.word(0), ""}));
  for (auto& x : result)
    x.word = x.word.substr(0, x.word.find_last_not_of('*') + 1);
  return result;
}

// -- the rest -----------------------------------------------------------------------------------

candidates drivers(const place& at) {
  return list(at, "admin.pool.ListDrivers");
}

/// A line has a driver's name and those of its options.
candidates options_of_driver(const place& at) {
  auto result = candidates{};
  for (auto& line : lines_of(at.ask({.method = "admin.pool.ListDrivers"}))) {
    if (!line.starts_with(at.word(1) + " "))
      continue;
    std::ranges::replace(line, ' ', '\n');
    for (auto& x : lines_of(line.substr(at.word(1).size() + 1)))
      result.push_back({x + "="});
  }
  return result;
}

candidates states(const place&) {
  auto result = candidates{};
  for (auto& x : model::power_rows)
    result.push_back({std::string{x.wire}});
  return result;
}

candidates columns(const place&) {
  auto result = candidates{};
  for (auto x : column_names())
    result.push_back({std::string{x}});
  for (auto& x : all_properties())
    result.push_back({"property:" + x.word, x.about});
  result.push_back({"feature:"});
  return result;
}

candidates several_columns(const place& at) {
  auto result = columns(at);
  result.push_back({"all"});
  return result;
}

candidates methods(const place& at) {
  auto all = drivers::parse_json(at.ask({.method = "qvmd.Methods"}));
  auto result = candidates{};
  if (all.is_array())
    for (auto& x : all)
      if (auto name = text(x, "name"); !name.empty())
        result.push_back({std::move(name), text(x, "help")});
  return result;
}

candidates profiles(const place& at) {
  auto given = std::string{};
  for (auto& [row, value] : at.line.given)
    if (row->id == opt_profiles)
      given = value;
  auto result = candidates{};
  auto failed = std::error_code{};
  for (auto& x : profile_names(profiles_folder(given), failed))
    result.push_back({x, "profile"});
  return result;
}

candidates commands_or_second_words(const place& at) {
  auto result = candidates{};
  auto group = at.word(0);
  for (auto& x : group.empty() ? first_words(commands()) : second_words(group, commands()))
    result.push_back({x});
  return result;
}

candidates topic_names(const place& at) {
  auto result = candidates{};
  if (at.line.words.empty())
    for (auto& x : topics(commands()))
      result.push_back({x.name, x.title});
  return result;
}

/// A word that is free.
candidates nothing(const place&) {
  return {};
}

/// An empty word: the shell knows its files best.
candidates files(const place&) {
  return {{"", "files"}};
}

/// Of a volume or a pool; how many revisions cannot be listed.
candidates values_of_setting(const place& at) {
  return at.word(1) == "revisions_to_keep" ? candidates{} : booleans(at);
}

struct source_row {
  std::string_view where; ///< beginning of the command's name, or an option; "": anywhere
  std::string_view wanted;
  source from;
};

// The first that fits.
const std::array source_table{
    source_row{"", "DOMAIN", domains},
    source_row{"", "PROPERTY", property_names},
    source_row{"set", "VALUE",
               [](const place& at) { return values_of_property(property_name(at.word(1)), at); }},
    source_row{"volume set", "VALUE", values_of_setting},
    source_row{"pool set", "VALUE", values_of_setting},
    source_row{"volume", "SETTING",
               [](const place&) {
                 return words({"revisions_to_keep", "rw", "ephemeral"});
               }},
    source_row{"pool", "SETTING",
               [](const place&) {
                 return words({"revisions_to_keep", "ephemeral_volatile"});
               }},
    source_row{"", "P=V", assigned_properties},
    source_row{"", "FEATURE", features},
    source_row{"", "SERVICE", services},
    source_row{"", "TAG", tags},
    source_row{"label add", "LABEL", nothing},
    source_row{"", "LABEL", labels},
    source_row{"device", "CLASS", device_classes},
    source_row{"", "CLASS", [](const place& at) { return list(at, "admin.vmclass.List"); }},
    source_row{"disposable run", "TEMPLATE", templates_of_disposables},
    source_row{"disposable", "TEMPLATE", disposable_templates},
    source_row{"", "TEMPLATE", templates_for_new},
    source_row{"", "NETVM", netvms},
    source_row{"", "POOL", pools},
    source_row{"", "DRIVER", drivers},
    source_row{"pool", "KEY=VALUE", options_of_driver},
    source_row{"", "STATE", states},
    source_row{"top", "COLUMN",
               [](const place&) {
                 auto result = candidates{};
                 for (auto& x : top_column_names())
                   result.push_back({x});
                 return result;
               }},
    source_row{"", "COLUMN", columns},
    source_row{"", "LIST", several_columns},
    source_row{"graph", "FORMAT",
               [](const place&) {
                 return words({"text", "dot", "svg", "json"});
               }},
    source_row{"", "FORMAT",
               [](const place&) {
                 return words({"table", "csv", "json"});
               }},
    source_row{"device detach", "BACKEND:PORT",
               [](const place& at) { return devices("Attached", at); }},
    source_row{"device unassign", "BACKEND:PORT",
               [](const place& at) { return devices("Assigned", at); }},
    source_row{"", "BACKEND:PORT", [](const place& at) { return devices("Available", at); }},
    source_row{"device allow", "INTERFACE", denied},
    source_row{"", "DOMAIN:VOLUME", volumes},
    source_row{"", "REVISION", revisions},
    source_row{"", "RULE", rules},
    source_row{"--before", "N", rules},
    source_row{"", "ACTION",
               [](const place&) {
                 return words({"accept", "drop"});
               }},
    source_row{"firewall", "HOST",
               [](const place&) {
                 return words({"any", "dns"});
               }},
    source_row{"", "PROTOCOL",
               [](const place&) {
                 return words({"tcp", "udp", "icmp", "any"});
               }},
    source_row{"", "METHOD", methods},
    source_row{"", "PROFILE", profiles},
    source_row{"--via", "ROUTE",
               [](const place&) {
                 return words({"socket", "qrexec"});
               }},
    source_row{"--compression", "PROGRAM",
               [](const place&) {
                 return words({"gzip", "bzip2", "xz", "zstd", "none"});
               }},
    source_row{"help", "COMMAND", commands_or_second_words},
    source_row{"", "TOPIC", topic_names},
    source_row{"", "FILE", files},
    source_row{"", "PATH", files},
    source_row{"", "FOLDER", files},
};

} // namespace

candidates candidates_for(std::string_view wanted, std::string_view option, const place& at) {
  auto command = at.line.what ? at.line.what->name : std::string_view{};
  auto fits = [&](const source_row& x) {
    return x.wanted == wanted && (x.where == option || command.starts_with(x.where));
  };
  auto found = std::ranges::find_if(source_table, fits);
  return found == source_table.end() ? candidates{} : found->from(at);
}

} // namespace qubes::ctl
