// pool and kernel: where volumes are kept.
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/name.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::ctl {

namespace {

using nlohmann::json;

json bytes_or_null(const pairs& facts, std::string_view key) {
  auto bytes = number_of(facts, key);
  return bytes ? json(*bytes) : json{};
}

expected<pairs> pool_facts(session& s, const std::string& name) {
  auto names = s.daemon.ask({.method = "admin.pool.List"});
  if (!names)
    return tl::unexpected{names.error()};
  auto known = lines_of(*names);
  if (std::find(known.begin(), known.end(), name) == known.end())
    return tl::unexpected{
        failure{trouble::refused, "", fmt::format("no pool '{}'", name), one_of(name, known)}};
  return s.daemon.ask({"admin.pool.Info", name, "dom0", ""}).map([](const auto& x) {
    return pairs_of(x);
  });
}

} // namespace

exit_code run_pool_ls(session& s) {
  auto names = s.daemon.ask({.method = "admin.pool.List"});
  if (!names)
    return report(s, names.error());
  auto asked = std::vector<request>{};
  for (auto& x : lines_of(*names))
    asked.push_back({"admin.pool.Info", x, "dom0", ""});
  auto answers = ask_all(s, asked);
  auto result =
      output_table{{{"name"}, {"driver"}, {"size", true}, {"used", true}, {"percent", true}}};
  for (auto i = std::size_t{0}; i < asked.size(); ++i) {
    if (!answers[i])
      return report(s, answers[i].error());
    auto facts = pairs_of(*answers[i]);
    auto size = bytes_or_null(facts, "size");
    auto used = bytes_or_null(facts, "usage");
    auto whole = size.is_number() && used.is_number() && size.get<std::int64_t>() > 0;
    auto percent =
        whole ? json(percent_of(used.get<std::int64_t>(), size.get<std::int64_t>())) : json{};
    auto shown = [&](const json& x) {
      return s.as == format::table && x.is_number() ? json(size_text(x.get<std::int64_t>())) : x;
    };
    auto full = percent.is_number() && percent.get<std::int64_t>() >= 90;
    result.add({{asked[i].argument},
                {value_of(facts, "driver")},
                {shown(size)},
                {shown(used)},
                {percent, full ? style::bad : style::plain}});
  }
  return print(s, result.render(s.as, s.out));
}

exit_code run_pool_info(session& s) {
  auto facts = pool_facts(s, s.line.words[0]);
  if (!facts)
    return report(s, facts.error());
  auto result = output_table{{{"key"}, {"value"}}};
  for (auto& [key, value] : *facts)
    result.add({{key}, {fact_cell(s, key, value)}});
  return print(s, result.render(s.as, s.out));
}

exit_code run_pool_add(session& s) {
  const auto& name = s.line.words[0];
  const auto& driver = s.line.words[1];
  if (auto good = model::check_pool_name(name); !good)
    return report(s, bad_word(good.error()).value());
  auto payload = fmt::format("name={}\n", name);
  for (auto i = std::size_t{2}; i < s.line.words.size(); ++i) {
    if (s.line.words[i].find('=') == std::string::npos)
      return report(s, usage_failure(fmt::format("'{}' is no KEY=VALUE", s.line.words[i]),
                                     "'qvmctl pool add --help' explains")
                           .value());
    payload += s.line.words[i] + "\n";
  }
  auto list = s.daemon.ask({.method = "admin.pool.ListDrivers"});
  if (!list)
    return report(s, list.error());
  auto drivers = std::vector<std::string>{};
  for (auto& x : lines_of(*list))
    drivers.push_back(x.substr(0, x.find(' ')));
  if (std::find(drivers.begin(), drivers.end(), driver) == drivers.end())
    return report(
        s, {trouble::usage, "", fmt::format("no driver '{}'", driver), one_of(driver, drivers)});
  auto there = s.daemon.ask({.method = "admin.pool.List"});
  if (!there)
    return report(s, there.error());
  if (auto taken = lines_of(*there); std::find(taken.begin(), taken.end(), name) != taken.end())
    return report(s, {trouble::refused, "", fmt::format("there is a pool '{}' already", name),
                      "choose another name"});
  return make_changes(s, {{{"admin.pool.Add", driver, "dom0", payload},
                           name,
                           fmt::format("pool {} would be added, driver {}; whether its options "
                                       "fit is known only when it is",
                                       name, driver)}});
}

exit_code run_pool_remove(session& s) {
  const auto& name = s.line.words[0];
  if (auto there = pool_facts(s, name); !there)
    return report(s, there.error());
  auto what = request{"admin.pool.Remove", name, "dom0", ""};
  if (auto may = would_be_taken(s, what); !may)
    return report(s, may.error());
  if (!s.line.dry_run)
    if (auto sure = confirm(s, fmt::format("forget the pool {}", name)); !sure)
      return report(s, sure.error());
  return make_changes(
      s, {{what, name, fmt::format("pool {} would be forgotten, its data stays", name)}});
}

exit_code run_pool_set(session& s) {
  auto known = std::vector<std::string>{"revisions_to_keep", "ephemeral_volatile"};
  auto key = property_name(s.line.words[1]);
  if (std::find(known.begin(), known.end(), key) == known.end())
    return report(
        s, {trouble::usage, "", fmt::format("no setting '{}' of pools", key), one_of(key, known)});
  const auto& name = s.line.words[0];
  if (auto there = pool_facts(s, name); !there)
    return report(s, there.error());
  return make_changes(s, {{{"admin.pool.Set." + key, name, "dom0", s.line.words[2]}, name}});
}

exit_code run_kernel_ls(session& s) {
  auto used = s.daemon.ask(property_request("Get", "@host", "default_kernel"));
  auto standard = used ? parse_property(*used) : tl::unexpected{used.error()};
  auto names = s.daemon.ask({.method = "admin.pool.List"});
  if (!standard || !names)
    return report(s, standard ? names.error() : standard.error());
  auto result = output_table{{{"kernel"}, {"pool"}, {"default"}}};
  for (auto& pool : lines_of(*names)) {
    auto info = s.daemon.ask({"admin.pool.Info", pool, "dom0", ""});
    if (!info || value_of(pairs_of(*info), "driver") != "linux-kernel")
      continue;
    auto list = s.daemon.ask({"admin.pool.volume.List", pool, "dom0", ""});
    if (!list)
      return report(s, list.error());
    for (auto& x : lines_of(*list))
      result.add({{x}, {pool}, {x == standard->text}});
  }
  return print(s, result.render(s.as, s.out));
}

} // namespace qubes::ctl
