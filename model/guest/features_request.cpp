#include "model/guest/features_request.hpp"

#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/base/name.hpp"
#include "model/change/reactions.hpp"
#include "model/guest/extension.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <functional>
#include <numeric>
#include <set>
#include <vector>

namespace qubes::model {

namespace {

constexpr auto most_features = std::size_t{1000};
/// Each subscriber hears of each feature: what one request makes them hear fits beside others'.
constexpr auto largest_request = std::size_t{64} * 1024;

bool is_harmless(char c) {
  return is_alphanumeric(c) || std::string_view{"-.,_= "}.find(c) != std::string_view::npos;
}

error bad_value(std::string_view name, std::string_view text, std::string_view allowed) {
  return {errc::protocol, fmt::format("{} asked for {}", quoted(text), quoted(name)),
          fmt::format("{} are allowed", allowed)};
}

} // namespace

outcome<features_request> parse_features_request(const entry_list& found,
                                                 std::vector<error>* passed_over) {
  if (found.size() > most_features)
    return fail(errc::protocol, fmt::format("{} features asked for; at most {} are read",
                                            found.size(), most_features));
  auto bytes =
      std::transform_reduce(found.begin(), found.end(), std::size_t{0}, std::plus{},
                            [](auto& entry) { return entry.first.size() + entry.second.size(); });
  if (bytes > largest_request)
    return fail(errc::protocol, fmt::format("features of {} bytes asked for; at most {} are read",
                                            bytes, largest_request));
  auto result = features_request{};
  for (auto& [path, text] : found) {
    auto name = std::string_view{path}.substr(std::min(path.size(), features_directory.size()));
    auto sound = check_feature_name(name);
    if (sound && !std::ranges::all_of(text, is_harmless))
      sound = tl::unexpected{bad_value(name, text, "letters, digits, blanks and any of -.,_=")};
    if (sound)
      result.emplace(name, text);
    else if (passed_over)
      passed_over->push_back(std::move(sound.error()));
  }
  return result;
}

outcome<features_request> parse_tools_request(const entry_list& found,
                                              std::vector<error>* passed_over) {
  constexpr auto known =
      std::array<std::string_view, 5>{"qrexec", "gui", "gui-emulated", "default-user", "os"};
  auto result = features_request{};
  for (auto& [path, text] : found) {
    auto name = std::string_view{path}.substr(std::min(path.size(), tools_directory.size()));
    if (text.empty() || std::ranges::find(known, name) == known.end())
      continue;
    if (std::ranges::all_of(text, is_alphanumeric))
      result.emplace(name, text);
    else if (passed_over)
      passed_over->push_back(bad_value(name, text, "letters and digits"));
  }
  return result;
}

namespace {

/// A request being granted.
struct grant {
  draft& to;
  const domain& owner;
  const features_request& request;

  std::string_view asked(std::string_view name) const {
    auto i = request.find(name);
    return i == request.end() ? std::string_view{} : std::string_view{i->second};
  }
  bool unset(std::string_view name, chain how = chain::own) const {
    return !find_feature(to.v, owner, name, how);
  }
  void set(std::string_view name, std::string_view text) {
    take(plan_set_feature(to.v, owner, name, text));
  }
  void remove(std::string_view name) { take(plan_remove_feature(to.v, owner, name)); }

private:
  /// What the host's own rules refuse is passed over, too.
  void take(plan part) {
    if (!part.refusal)
      to.include(std::move(part));
  }
};

// -- plain fields -----------------------------------------------------------------------------

bool is_truth(std::string_view x) {
  return x == "0" || x == "1";
}

bool is_yes(std::string_view x) {
  return x == "1";
}

bool is_known_system(std::string_view x) {
  return x == "Windows" || x == "Linux";
}

bool is_anything(std::string_view x) {
  return !x.empty();
}

bool is_version(std::string_view x) {
  return !x.empty() && is_digit(x.front())
         && std::ranges::all_of(x, [](char c) { return is_digit(c) || c == '.' || c == '-'; });
}

/// Two numbers of up to three digits: 4.3
bool is_agent_version(std::string_view x) {
  auto dot = x.find('.');
  if (dot == x.npos)
    return false;
  auto number = [](std::string_view part) {
    return !part.empty() && part.size() <= 3 && std::ranges::all_of(part, is_digit);
  };
  return number(x.substr(0, dot)) && number(x.substr(dot + 1));
}

/// YYYY-MM-DD
bool is_date(std::string_view x) {
  if (x.size() != 10 || x[4] != '-' || x[7] != '-')
    return false;
  auto number = [x](std::size_t at, std::size_t length) {
    auto result = 0U;
    auto part = x.substr(at, length);
    return std::ranges::all_of(part, is_digit)
                   && std::from_chars(part.begin(), part.end(), result).ec == std::errc{}
               ? result
               : 0U;
  };
  auto year = number(0, 4);
  return year > 0
         && std::chrono::year_month_day{std::chrono::year{static_cast<int>(year)},
                                        std::chrono::month{number(5, 2)},
                                        std::chrono::day{number(8, 2)}}
                .ok();
}

struct field {
  std::string_view feature;
  bool (*accepts)(std::string_view);
  bool once; ///< only while it is absent: an administrator's choice stands
};

constexpr std::array fields{
    field{"qrexec", is_truth, true},
    field{"gui", is_truth, true},
    field{"gui-emulated", is_truth, true},
    field{"qubes-firewall", is_truth, false},
    field{"vmexec", is_truth, false},
    field{"anon-timezone", is_yes, false},
    field{"os", is_known_system, false},
    field{"os-distribution", is_anything, false},
    field{"os-distribution-like", is_anything, false},
    field{"os-version", is_version, false},
    field{"os-eol", is_date, false},
    field{"qubes-agent-version", is_agent_version, false},
};

void grant_fields(grant& x) {
  for (auto& it : fields) {
    auto text = x.asked(it.feature);
    if (text.empty() || !it.accepts(text) || (it.once && !x.unset(it.feature)))
      continue;
    x.set(it.feature, text == "0" ? "" : text);
  }
}

// -- boot modes -------------------------------------------------------------------------------

constexpr auto most_boot_modes = std::size_t{64};
constexpr auto kernelopts_prefix = std::string_view{"boot-mode.kernelopts."};
constexpr auto name_prefix = std::string_view{"boot-mode.name."};
constexpr auto user_prefix = std::string_view{"boot-mode.default-user."};

/// Entries of the request that begin with `prefix`, by what follows.
std::vector<std::pair<std::string_view, std::string_view>> below(const features_request& request,
                                                                 std::string_view prefix) {
  auto result = std::vector<std::pair<std::string_view, std::string_view>>{};
  for (auto& [name, text] : request)
    if (name.starts_with(prefix))
      result.emplace_back(std::string_view{name}.substr(prefix.size()), text);
  return result;
}

struct boot_modes {
  std::set<std::string_view> ids;
  std::map<std::string, std::string_view> entries; ///< features to have, all of them
};

/// Nothing when two modes would look the same, or there are too many.
std::optional<boot_modes> read_boot_modes(const features_request& request) {
  auto result = boot_modes{};
  for (auto& [id, text] : below(request, kernelopts_prefix)) {
    if (id.empty() || id == "default" || id.find('.') != id.npos)
      continue;
    result.ids.insert(id);
    result.entries.emplace(fmt::format("{}{}", kernelopts_prefix, id), text);
  }
  auto names = std::set<std::string_view>{};
  for (auto& [id, text] : below(request, name_prefix)) {
    if (id != "default" && !result.ids.contains(id))
      continue;
    if (!names.insert(text).second)
      return std::nullopt;
    result.entries.emplace(fmt::format("{}{}", name_prefix, id), text);
  }
  for (auto& [id, text] : below(request, user_prefix))
    if (result.ids.contains(id))
      result.entries.emplace(fmt::format("{}{}", user_prefix, id), text);
  if (result.entries.empty() || result.entries.size() > most_boot_modes)
    return std::nullopt;
  return result;
}

/// The boot modes become exactly those asked for.
void grant_boot_modes(grant& x) {
  auto modes = read_boot_modes(x.request);
  if (!modes)
    return;
  for (auto& [name, text] : x.owner.features)
    for (auto prefix : {kernelopts_prefix, name_prefix, user_prefix})
      if (name.starts_with(prefix) && !modes->entries.contains(name))
        x.remove(name);
  for (auto& [name, text] : modes->entries)
    if (own_feature(x.owner, name) != std::string{text})
      x.set(name, text);
}

/// Which boot mode is used where; one that the domain has, or the default.
void grant_boot_defaults(grant& x) {
  auto modes = read_boot_modes(x.request);
  for (auto name :
       {"boot-mode.active", "boot-mode.appvm-default", "boot-mode.standalone-default"}) {
    auto id = x.asked(name);
    if (id.empty()
        || (name == std::string_view{"boot-mode.appvm-default"} && !x.owner.is(template_class)))
      continue;
    auto known =
        modes ? modes->ids.contains(id) : !x.unset(fmt::format("{}{}", kernelopts_prefix, id));
    if (id == "default" || known)
      x.set(name, id);
  }
}

// -- what the guest supports ------------------------------------------------------------------

/// Features of this prefix become exactly those asked for with "1"; without any, all stay.
void grant_supported(grant& x, std::string_view prefix) {
  auto wanted = std::set<std::string, std::less<>>{};
  for (auto& [name, text] : x.request)
    if (name.starts_with(prefix) && text == "1")
      wanted.insert(name);
  if (wanted.empty())
    return;
  for (auto& name : wanted)
    if (own_feature(x.owner, name) != "1")
      x.set(name, "1");
  for (auto& [name, text] : x.owner.features)
    if (name.starts_with(prefix) && !wanted.contains(name))
      x.remove(name);
}

/// AppArmor is switched on once it is there, and off when it goes.
void follow_apparmor(grant& x) {
  constexpr auto support = "supported-service.apparmor";
  auto had = !x.unset(support);
  auto any = std::ranges::any_of(x.request, [](auto& it) {
    return it.first.starts_with("supported-service.") && it.second == "1";
  });
  auto has = any ? x.asked(support) == "1" : had;
  if (!had && has && x.unset("apparmor"))
    x.set("apparmor", "1");
  if (had && !has && own_feature(x.owner, "apparmor") == "1")
    x.remove("apparmor");
}

void grant_services(grant& x) {
  grant_supported(x, "supported-service.");
  follow_apparmor(x);
}

// -- Windows ----------------------------------------------------------------------------------

/// For the next start: the domain that asks runs.
void keep(grant& x, std::string_view name, std::int64_t number) {
  auto about = subject{x.to.v, &x.owner};
  auto next = maybe_value{number};
  auto old = read(about, name);
  auto stored = x.owner.properties.find(name);
  if (stored != x.owner.properties.end() && stored->second == *next)
    return;
  x.to.tell(property_event("property-pre-set", &x.owner, name, next, old));
  x.to.edit(set_property{x.owner.name, std::string{name}, *next});
  react_to_set(x.to, {&x.owner, name, old, next});
  x.to.tell(property_event("property-set", &x.owner, name, next, old));
}

void grant_windows(grant& x) {
  if (!x.owner.is(qubes_vm) || x.asked("os") != "Windows" || x.asked("qrexec") != "1")
    return;
  x.set("rpc-clipboard", "1");
  constexpr std::pair<std::string_view, std::string_view> defaults[]{
      {"audio-model", "ich6"},
      {"no-monitor-layout", "1"},
      {"stubdom-qrexec", "1"},
      {"timezone", "localtime"},
  };
  for (auto& [name, text] : defaults)
    if (x.unset(name, chain::with_template))
      x.set(name, text);
  keep(x, "maxmem", 0);
  keep(x, "qrexec_timeout", 6000);
}

// -- the whole --------------------------------------------------------------------------------

/// As Python prints a dict; harmless characters need no escapes.
std::string as_dict(const features_request& request) {
  auto result = std::string{};
  for (auto& [name, text] : request)
    fmt::format_to(std::back_inserter(result), "{}'{}': '{}'", result.empty() ? "" : ", ", name,
                   text);
  return fmt::format("{{{}}}", result);
}

} // namespace

plan plan_features_request(const view& v, const domain& owner, const features_request& request) {
  auto to = draft{v};
  auto x = grant{to, owner, request};
  auto speaks_for_itself = !template_of(v, owner);
  if (speaks_for_itself) {
    grant_services(x);
    grant_supported(x, "supported-feature.");
  }
  grant_supported(x, "supported-rpc.");
  if (speaks_for_itself)
    grant_windows(x);
  to.tell({owner.name, "features-request", {{"untrusted_features", as_dict(request)}}});
  if (speaks_for_itself) {
    grant_fields(x);
    grant_boot_modes(x);
    grant_boot_defaults(x);
    if (x.unset("qrexec") && x.asked("qrexec") == "1")
      to.tell({owner.name, "template-postinstall", {}});
  }
  grant_extensions(to, owner, request);
  return std::move(to).finish();
}

} // namespace qubes::model
