#include "model/property/feature_rules.hpp"

#include "model/base/address.hpp"
#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/base/split.hpp"
#include "model/property/feature.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace qubes::model {

namespace {

struct setting {
  std::string_view name; ///< of the feature
  std::string_view key;  ///< what follows the prefix
  std::string_view text;
};

/// QubesDB keys have at most 63 bytes; these lengths leave room for the directory.
constexpr auto longest_service = std::size_t{48};
constexpr auto longest_config = std::size_t{52};
constexpr auto longest_persist = std::size_t{54};

tl::unexpected<error> refuse(const setting& x, std::string_view reason, std::string hint = {}) {
  return fail(errc::value,
              fmt::format("feature {} = {}: {}", quoted(x.name), quoted(x.text), reason),
              std::move(hint));
}

bool all_digits(std::string_view text) {
  return std::ranges::all_of(text, is_digit);
}

outcome<void> limit_key(const setting& x, std::size_t most) {
  if (x.key.empty())
    return refuse(x, "the name ends with its prefix");
  if (x.key.size() > most)
    return refuse(x, fmt::format("at most {} characters may follow the prefix, these are {}", most,
                                 x.key.size()));
  return {};
}

outcome<void> service(const setting& x) {
  if (x.key == "." || x.key == ".." || x.key.find('/') != x.key.npos)
    return refuse(x, "this is no name of a service");
  return limit_key(x, x.key.starts_with("app-dispvm.") ? x.key.size() : longest_service);
}

outcome<void> vm_config(const setting& x) {
  if (auto sound = limit_key(x, longest_config); !sound)
    return sound;
  if (!is_letter(x.key.front()))
    return refuse(x, "a letter must follow the prefix");
  return {};
}

// -- custom-persist ---------------------------------------------------------------------------

bool is_file_mode(std::string_view text) {
  auto mode = 0U;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  return problem == std::errc{} && end == text.data() + text.size() && mode <= 07777;
}

/// `type:owner:group:mode:/path`
bool is_persist_rule(std::string_view text) {
  auto type = take_until(text, ':');
  auto owner = take_until(text, ':');
  auto group = take_until(text, ':');
  auto mode = take_until(text, ':');
  return (type == "file" || type == "dir") && !owner.empty() && !group.empty() && is_file_mode(mode)
         && text.starts_with('/');
}

outcome<void> custom_persist(const setting& x) {
  if (auto sound = limit_key(x, longest_persist); !sound)
    return sound;
  if (x.text.starts_with('/') || is_persist_rule(x.text))
    return {};
  return refuse(x, "this names no absolute path",
                "give a path, or file:OWNER:GROUP:MODE:/PATH, or dir:OWNER:GROUP:MODE:/PATH");
}

// -- addresses shown inside (spec/network.md §3; empty shows the real ones) ---------------------

outcome<void> shown_address(const setting& x) {
  if (x.text.empty() || parse_ipv4(x.text))
    return {};
  return refuse(x, "this is no IPv4 address", "give one like 192.168.1.2, or nothing");
}

outcome<void> shown_netmask(const setting& x) {
  constexpr auto longest = 24;
  auto bits = -1;
  auto end = x.text.data() + x.text.size();
  auto [rest, problem] = std::from_chars(x.text.data(), end, bits);
  auto is_length = problem == std::errc{} && rest == end && bits >= 0 && bits <= longest;
  if (x.text.empty() || is_length || parse_ipv4(x.text))
    return {};
  return refuse(
      x, "this is no netmask",
      fmt::format("give one like 255.255.255.0, a length of 0 to {}, or nothing", longest));
}

// -- containers -------------------------------------------------------------------------------

outcome<void> absolute_path(const setting& x) {
  auto goes_up = x.text.find("/../") != x.text.npos || x.text.ends_with("/..");
  if (x.text.empty() || (x.text.starts_with('/') && !goes_up))
    return {};
  return refuse(x, "this is no absolute path", "give a path that begins with a slash");
}

/// Of an absolute path; "" for the root.
std::string_view top_directory(std::string_view path) {
  while (!path.empty()) {
    path.remove_prefix(1);
    auto name = path.substr(0, path.find('/'));
    if (!name.empty() && name != ".")
      return name;
    path.remove_prefix(name.size());
  }
  return {};
}

/// Not where a volume would hide what the host mounts, or everything.
outcome<void> mount_point(const setting& x) {
  if (auto sound = absolute_path(x); !sound || x.text.empty())
    return sound;
  auto top = top_directory(x.text);
  constexpr auto reserved = std::array<std::string_view, 5>{"", "rw", "proc", "sys", "dev"};
  if (std::ranges::find(reserved, top) == reserved.end())
    return {};
  return refuse(x, "nothing can be mounted there",
                "give a directory outside /rw, /proc, /sys and /dev, like /var/tmp");
}

/// What Linux takes for the name of an interface.
outcome<void> bridge_name(const setting& x) {
  constexpr auto longest = std::size_t{15};
  auto fits = x.text.size() <= longest && x.text != "." && x.text != ".."
              && std::ranges::all_of(x.text, [](char c) {
                   return is_alphanumeric(c) || c == '-' || c == '_' || c == '.';
                 });
  if (fits)
    return {};
  return refuse(x, "this is no name of a bridge",
                fmt::format("give at most {} letters, digits and '-_.'", longest));
}

// -- preloaded disposables --------------------------------------------------------------------

outcome<void> can_preload(const view& v, const domain& owner, const setting& x) {
  if (owner.is(admin_vm))
    return {};
  auto has = [&](std::string_view feature) {
    return has_feature(v, owner, feature, chain::with_template);
  };
  if (!has("qrexec"))
    return refuse(x, fmt::format("'{}' has no agent", owner.name.str()));
  for (auto rpc :
       {"supported-rpc.qubes.WaitForRunningSystem", "supported-rpc.qubes.WaitForSession"})
    if (!has(rpc))
      return refuse(
          x,
          fmt::format("'{}' does not serve {}", owner.name.str(), std::string_view{rpc}.substr(14)),
          "update its template");
  return {};
}

outcome<void> whole_number(const setting& x) {
  if (all_digits(x.text))
    return {};
  return refuse(x, "this is no whole number");
}

outcome<void> preload_delay(const setting& x) {
  auto seconds = 0.0;
  auto end = x.text.data() + x.text.size();
  auto [rest, problem] = std::from_chars(x.text.data(), end, seconds);
  if (x.text.empty() || (problem == std::errc{} && rest == end && std::isfinite(seconds)))
    return {};
  return refuse(x, "this is no number of seconds");
}

// -- the table --------------------------------------------------------------------------------

struct feature_rule {
  std::string_view feature; ///< whole name, or prefix when it ends with a dot
  int holders;
  outcome<void> (*check)(const setting&);
  /// What the rule asks of the domain as it is now; null for nothing.
  outcome<void> (*able)(const view&, const domain&, const setting&) = nullptr;
};

constexpr int preloading = admin_vm | app_vm | standalone_vm;

constexpr std::array feature_rules{
    feature_rule{"service.", local_vm, service},
    feature_rule{"vm-config.", local_vm, vm_config},
    feature_rule{"custom-persist.", local_vm, custom_persist},
    feature_rule{"net.fake-ip", local_vm, shown_address},
    feature_rule{"net.fake-gateway", local_vm, shown_address},
    feature_rule{"net.fake-netmask", local_vm, shown_netmask},
    feature_rule{"net.bridge", qubes_vm, bridge_name},
    feature_rule{"container.init", qubes_vm, absolute_path},
    feature_rule{"container.volatile", qubes_vm, mount_point},
    feature_rule{"preload-dispvm-max", preloading, whole_number, can_preload},
    feature_rule{"preload-dispvm-delay", preloading, preload_delay},
    feature_rule{"preload-dispvm-threshold", admin_vm, whole_number},
};

const feature_rule* find_rule(const domain& owner, std::string_view name) {
  auto found = std::ranges::find_if(feature_rules, [&](auto& it) {
    auto fits = it.feature.ends_with('.') ? name.starts_with(it.feature) : name == it.feature;
    return fits && (row(owner.type).bit & it.holders);
  });
  return found == feature_rules.end() ? nullptr : &*found;
}

setting setting_of(const feature_rule& rule, std::string_view name, std::string_view text) {
  return {name, name.substr(rule.feature.size()), text};
}

} // namespace

outcome<void> check_feature_text(const domain& owner, std::string_view name,
                                 std::string_view text) {
  auto* rule = find_rule(owner, name);
  return rule ? rule->check(setting_of(*rule, name, text)) : outcome<void>{};
}

outcome<void> check_feature(const view& v, const domain& owner, std::string_view name,
                            std::string_view text) {
  auto* rule = find_rule(owner, name);
  if (rule && rule->able)
    if (auto able = rule->able(v, owner, setting_of(*rule, name, text)); !able)
      return able;
  return check_feature_text(owner, name, text);
}

std::vector<std::string_view> ruled_features() {
  auto result = std::vector<std::string_view>{};
  for (auto& it : feature_rules)
    result.push_back(it.feature);
  return result;
}

} // namespace qubes::model
