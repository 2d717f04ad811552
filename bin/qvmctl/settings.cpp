#include "bin/qvmctl/domain_table.hpp"
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/literal.hpp"
#include "model/base/name.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace qubes::ctl {

namespace {

using nlohmann::json;

/// A domain property that is set to nothing reads "none", which `set` takes as well.
std::string shown_text(const property_value& x) {
  return x.text.empty() && x.type == "vm" ? "none" : x.text;
}

} // namespace

nlohmann::json typed(const property_value& x) {
  if (x.text.empty() && x.type != "str")
    return {};
  if (x.type == "bool")
    return x.text == "True";
  auto number = std::int64_t{0};
  if (x.type == "int"
      && std::from_chars(x.text.data(), x.text.data() + x.text.size(), number).ec == std::errc{})
    return number;
  return x.text;
}

std::string property_name(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

request property_request(std::string_view what, const std::string& domain, std::string name,
                         std::string payload) {
  auto host = is_host(domain);
  return {fmt::format("admin.{}property.{}", host ? "" : "vm.", what), std::move(name),
          host ? "dom0" : domain, std::move(payload)};
}

namespace {

std::vector<output_table::cell> property_row(const session& s, const std::string& name,
                                             const property_value& x) {
  auto value = s.as == format::json ? typed(x) : json(shown_text(x));
  auto look = x.at_default ? style::dim : style::plain;
  return {{name, style::plain}, {x.at_default, style::dim}, {value, look}};
}

/// All of them, or the one that is named.
expected<std::vector<named_property>> properties_of(session& s, const std::string& domain,
                                                    const std::string& name) {
  auto answer = s.daemon.ask(property_request(name.empty() ? "GetAll" : "Get", domain, name));
  if (!answer)
    return tl::unexpected{explain(s, answer.error(), domain, name)};
  if (name.empty())
    return parse_properties(*answer);
  return parse_property(*answer).map([&](property_value x) {
    return std::vector<named_property>{{name, std::move(x)}};
  });
}

} // namespace

exit_code run_get(session& s) {
  auto domains = domain_words(s, true);
  if (!domains)
    return report(s, domains.error());
  auto name = s.line.words.size() > 1 ? property_name(s.line.words[1]) : std::string{};
  auto result = domain_table{s, {{"name"}, {"default"}, {"value"}}};
  for (auto& domain : *domains) {
    auto all = properties_of(s, domain, name);
    if (!all)
      return report(s, all.error());
    if (!result.of_several() && !name.empty() && s.as == format::table)
      return print(s, raw(s, shown_text(all->front().value)) + "\n");
    for (auto& x : *all)
      result.add(domain, property_row(s, x.name, x.value));
  }
  return result.print();
}

/// Amounts of memory are in MiB, and so are their units: 400M or 400MiB, 2G or 2Gi, in any case.
expected<std::string> memory_value(const std::string& name, const std::string& value) {
  auto unit = value.find_first_not_of("0123456789");
  if ((name != "memory" && name != "maxmem") || unit == 0 || unit == std::string::npos)
    return value;
  struct row {
    std::string_view letter;
    std::int64_t mebibytes;
  };
  auto number = std::int64_t{0};
  auto bad = std::from_chars(value.data(), value.data() + unit, number).ec;
  auto text = model::lower_case(value.substr(unit));
  for (auto [letter, mebibytes] : {row{"m", 1}, row{"g", 1024}, row{"t", 1024 * 1024}})
    for (auto rest : {"", "i", "b", "ib"})
      if (text == fmt::format("{}{}", letter, rest) && bad == std::errc{} && number < 1'000'000)
        return fmt::format("{}", number * mebibytes);
  return usage_failure(fmt::format("'{}' is no amount of memory", value),
                       "whole MiB, or with a unit: 400, 400M, 2G or 2Gi (1024 M)");
}

expected<std::string> property_payload(session& s, const std::string& domain,
                                       const std::string& name, const std::string& value) {
  if (model::lower_case(value) != "none")
    return memory_value(name, value);
  auto now = s.daemon.ask(property_request("Get", domain, name));
  if (!now)
    return tl::unexpected{explain(s, now.error(), domain, name)};
  auto parsed = parse_property(*now);
  if (!parsed || parsed->type != "vm")
    return value; // a text like any
  return means_none(value, s.daemon).map([&](bool none) { return none ? "" : value; });
}

exit_code run_set(session& s) {
  auto domains = domain_words(s, true);
  if (!domains)
    return report(s, domains.error());
  auto name = property_name(s.line.words[1]);
  auto changes = std::vector<change>{};
  for (auto& x : *domains) {
    auto value = property_payload(s, x, name, s.line.words[2]);
    if (!value)
      return report(s, value.error());
    changes.push_back({property_request("Set", x, name, *value), name});
  }
  return make_changes(s, changes);
}

namespace {

/// "the default of memory is 400"; "" where there is none to tell, and the reset says why.
std::string default_of(session& s, const std::string& domain, const std::string& name) {
  auto answer = s.daemon.ask(property_request("GetDefault", domain, name));
  auto value = answer ? parse_property("default=True " + *answer) : tl::unexpected{answer.error()};
  return value ? fmt::format("the default of {} is {}", name, shown_text(*value)) : std::string{};
}

} // namespace

exit_code run_reset(session& s) {
  auto domains = domain_words(s, true);
  if (!domains)
    return report(s, domains.error());
  auto changes = std::vector<change>{};
  for (auto& x : *domains)
    for (auto i = std::size_t{1}; i < s.line.words.size(); ++i) {
      auto name = property_name(s.line.words[i]);
      changes.push_back({property_request("Reset", x, name), name});
      if (auto value = s.line.dry_run ? default_of(s, x, name) : std::string{}; !value.empty())
        changes.back().head = fmt::format("{}: {}", is_host(x) ? "host" : x, value);
    }
  return make_changes(s, changes);
}

namespace {

// -- features and tags ----------------------------------------------------------------------

/// The domain and the feature a command names, both checked.
expected<std::string> feature_word(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return domain;
  if (auto good = model::check_feature_name(s.line.words[1]); !good)
    return bad_word(good.error());
  return domain;
}

} // namespace

exit_code run_feature_get(session& s) {
  auto domain = feature_word(s);
  if (!domain)
    return report(s, domain.error());
  auto answer = s.daemon.ask({"admin.vm.feature.Get", s.line.words[1], *domain, ""});
  if (!answer)
    return report(s, explain(s, answer.error(), *domain, s.line.words[1]));
  return print(s, raw(s, *answer) + "\n");
}

namespace {

/// The same change of a feature in every domain the first word names.
exit_code change_feature(session& s, const char* method, const std::string& name,
                         const std::string& value) {
  if (auto good = model::check_feature_name(name); !good)
    return report(s, bad_word(good.error()).value());
  if (auto good = model::check_feature_value(name, value); !good)
    return report(s, bad_word(good.error()).value());
  return change_everywhere(s, {{{method, name, "", value}, name}});
}

} // namespace

exit_code run_feature_set(session& s) {
  return change_feature(s, "admin.vm.feature.Set", s.line.words[1], s.line.words[2]);
}

exit_code run_feature_unset(session& s) {
  return change_feature(s, "admin.vm.feature.Remove", s.line.words[1], "");
}

namespace {

constexpr auto service_prefix = std::string_view{"service."};

std::string service_feature(const session& s) {
  return std::string{service_prefix} + s.line.words[1];
}

expected<std::vector<std::pair<std::string, std::string>>> features_of(session& s,
                                                                       const std::string& domain) {
  auto list = s.daemon.ask({"admin.vm.feature.List", "", domain, ""});
  if (!list)
    return tl::unexpected{explain(s, list.error(), domain, "")};
  const auto names = lines_of(*list);
  auto asked = std::vector<request>{};
  for (auto& x : names)
    asked.push_back({"admin.vm.feature.Get", x, domain, ""});
  auto values = ask_all(s, asked);
  auto result = pairs{};
  for (auto i = std::size_t{0}; i < names.size(); ++i)
    if (values[i])
      result.emplace_back(names[i], *values[i]);
    else if (values[i].error().klass != "QubesFeatureNotFoundError") // removed in between
      return tl::unexpected{values[i].error()};
  return result;
}

/// Those whose names begin so, without that.
exit_code list_features(session& s, std::vector<output_table::column> heads,
                        std::string_view prefix, json (*shown)(const std::string& value)) {
  auto domains = domain_words(s);
  if (!domains)
    return report(s, domains.error());
  auto result = domain_table{s, std::move(heads)};
  for (auto& domain : *domains) {
    auto all = features_of(s, domain);
    if (!all)
      return report(s, all.error());
    for (auto& [name, value] : *all)
      if (name.starts_with(prefix))
        result.add(domain, {{name.substr(prefix.size())}, {shown(value)}});
  }
  return result.print();
}

} // namespace

exit_code run_service_ls(session& s) {
  return list_features(s, {{"service"}, {"on"}}, service_prefix,
                       [](const std::string& value) { return json(!value.empty()); });
}

exit_code run_service_on(session& s) {
  return change_feature(s, "admin.vm.feature.Set", service_feature(s), "1");
}

exit_code run_service_off(session& s) {
  return change_feature(s, "admin.vm.feature.Set", service_feature(s), "");
}

exit_code run_service_default(session& s) {
  return change_feature(s, "admin.vm.feature.Remove", service_feature(s), "");
}

exit_code run_feature_ls(session& s) {
  return list_features(s, {{"name"}, {"value"}}, "", [](const std::string& x) { return json(x); });
}

exit_code run_tag_ls(session& s) {
  auto domains = domain_words(s);
  if (!domains)
    return report(s, domains.error());
  auto result = domain_table{s, {{"tag"}}};
  for (auto& domain : *domains) {
    auto list = s.daemon.ask({"admin.vm.tag.List", "", domain, ""});
    if (!list)
      return report(s, explain(s, list.error(), domain, ""));
    for (auto& x : lines_of(*list))
      result.add(domain, {{x}});
  }
  return result.print();
}

namespace {

exit_code change_tags(session& s, const char* method) {
  auto each = std::vector<change>{};
  for (auto i = std::size_t{1}; i < s.line.words.size(); ++i) {
    auto& tag = s.line.words[i];
    if (auto good = model::check_tag(tag); !good)
      return report(s, bad_word(good.error()).value());
    each.push_back({{method, tag, "", ""}, tag});
  }
  return change_everywhere(s, each);
}

} // namespace

exit_code run_tag_add(session& s) {
  return change_tags(s, "admin.vm.tag.Set");
}

exit_code run_tag_del(session& s) {
  return change_tags(s, "admin.vm.tag.Remove");
}

} // namespace qubes::ctl
