// create, clone, remove, rename. What is made here is whole or not there at all: until it is whole
// it has the feature `unfinished`, by which a second run knows what a crash left of the first.
#include "bin/qvmctl/design.hpp"
#include "bin/qvmctl/groups.hpp"
#include "model/base/name.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>

namespace qubes::ctl {

namespace {

constexpr auto renamed_to = std::string_view{"qvmctl-rename-to"};
constexpr std::array classes{"AppVM", "TemplateVM", "StandaloneVM", "DispVM", "RemoteVM"};

expected<void> done_or(expected<std::string> answer) {
  if (!answer)
    return tl::unexpected{std::move(answer.error())};
  return {};
}

/// The first refusal of several requests made at once.
expected<void> all_done(session& s, const std::vector<request>& asked) {
  for (auto& x : ask_all(s, asked))
    if (!x)
      return tl::unexpected{std::move(x.error())};
  return {};
}

std::string listed(const pairs& all) {
  auto result = std::vector<std::string>{};
  for (auto& [key, value] : all)
    result.push_back(fmt::format("{}={}", key, value));
  return fmt::format("{}", fmt::join(result, ", "));
}

std::string shown(const design& x, const std::string& name) {
  auto result = fmt::format("{}: {}, label {}", name, x.klass, x.label);
  if (!x.based_on.empty())
    result += ", template " + x.based_on;
  result += "\n";
  auto add = [&](std::string_view what, const std::string& text) {
    if (!text.empty())
      result += fmt::format("{}: {}: {}\n", name, what, text);
  };
  add("pools", listed(x.pools));
  add("properties", listed(x.properties));
  add("features", listed(x.features));
  add("tags", fmt::format("{}", fmt::join(x.tags, ", ")));
  if (!x.firewall.empty())
    add("firewall", fmt::format("{} rules", lines_of(x.firewall).size()));
  if (!x.notes.empty())
    add("notes", fmt::format("{} bytes", x.notes.size()));
  if (!x.devices.empty())
    add("devices", fmt::format("{} assigned", x.devices.size()));
  if (!x.source.empty())
    add("volumes", "those of " + x.source + ", copied");
  return result;
}

} // namespace

request create_request(const design& x, const std::string& name) {
  auto payload = fmt::format("name={} label={}", name, x.label);
  for (auto& [volume, pool] : x.pools)
    payload +=
        volume.empty() ? fmt::format(" pool={}", pool) : fmt::format(" pool:{}={}", volume, pool);
  return {fmt::format("admin.vm.Create{}.{}", x.pools.empty() ? "" : "InPool", x.klass), x.based_on,
          "dom0", payload};
}

namespace {

/// Volumes that keep what is written to them are copied, all at once.
expected<void> copy_volumes(session& s, const std::string& from, const std::string& to) {
  auto names = s.daemon.ask({"admin.vm.volume.List", "", to, ""});
  if (!names)
    return tl::unexpected{names.error()};
  auto offers = std::vector<request>{};
  for (auto& x : lines_of(*names)) {
    auto info = s.daemon.ask({"admin.vm.volume.Info", x, to, ""});
    if (!info)
      return tl::unexpected{info.error()};
    if (value_of(pairs_of(*info), "save_on_stop") == "True")
      offers.push_back({"admin.vm.volume.CloneFrom", x, from, ""});
  }
  auto tokens = ask_all(s, offers);
  auto copies = std::vector<request>{};
  for (auto i = std::size_t{0}; i < offers.size(); ++i) {
    if (!tokens[i])
      return tl::unexpected{tokens[i].error()};
    copies.push_back({"admin.vm.volume.CloneTo", offers[i].argument, to, *tokens[i]});
  }
  return all_done(s, copies);
}

expected<void> fill(session& s, const design& x, const std::string& name) {
  for (auto& [key, value] : x.properties) { // one after another: some allow others
    auto payload = property_payload(s, name, key, value);
    if (!payload)
      return tl::unexpected{payload.error()};
    if (auto set = s.daemon.ask(property_request("Set", name, key, *payload)); !set)
      return tl::unexpected{explain(s, set.error(), name, key)};
  }
  auto rest = std::vector<request>{};
  for (auto& tag : x.tags)
    rest.push_back({"admin.vm.tag.Set", tag, name, ""});
  for (auto& [key, value] : x.features)
    rest.push_back({"admin.vm.feature.Set", key, name, value});
  if (!x.notes.empty())
    rest.push_back({"admin.vm.notes.Set", "", name, x.notes});
  if (!x.firewall.empty())
    rest.push_back({"admin.vm.firewall.Set", "", name, x.firewall});
  for (auto& y : x.devices)
    rest.push_back({fmt::format("admin.vm.device.{}.Assign", y.klass),
                    fmt::format("{}+{}", y.backend, y.argument), name, serialize(y.how)});
  if (auto done = all_done(s, rest); !done)
    return done;
  return x.source.empty() ? expected<void>{} : copy_volumes(s, x.source, name);
}

} // namespace

expected<void> mark(session& s, const std::string& name, std::string_view key,
                    const std::string& value) {
  return done_or(s.daemon.ask({"admin.vm.feature.Set", std::string{key}, name, value}));
}

expected<void> unmark(session& s, const std::string& name, std::string_view key) {
  return done_or(s.daemon.ask({"admin.vm.feature.Remove", std::string{key}, name, ""}));
}

namespace {

/// "" when it has no such mark.
expected<std::string> mark_of(session& s, const std::string& name, std::string_view key) {
  auto answer = s.daemon.ask({"admin.vm.feature.Get", std::string{key}, name, ""});
  if (!answer && answer.error().klass == "QubesFeatureNotFoundError")
    return std::string{};
  return answer;
}

} // namespace

expected<void> remove_domain(session& s, const std::string& name) {
  return all_done(s, {{"admin.vm.Remove", "", name, ""}}); // takes as long as it takes
}

namespace {

/// Makes the domain and leaves it marked with `why` as unfinished; nothing stays of a failure.
expected<void> build(session& s, const design& x, const std::string& name, const std::string& why) {
  if (auto made = ask_all(s, {create_request(x, name)}); !made.front())
    return tl::unexpected{x.based_on.empty() ? std::move(made.front().error())
                                             : explain(s, made.front().error(), x.based_on, "")};
  auto filled = x.klass == "RemoteVM" ? expected<void>{} : mark(s, name, unfinished, why);
  if (filled)
    filled = fill(s, x, name);
  if (filled)
    return filled;
  if (auto gone = remove_domain(s, name); !gone)
    filled.error().hint = fmt::format("'{}' is left half made: {}; 'qvmctl remove {}' removes it",
                                      name, gone.error().message(), name);
  else if (filled.error().hint.empty())
    filled.error().hint = fmt::format("nothing of '{}' was kept", name);
  return filled;
}

expected<void> make(session& s, const design& x, const std::string& name, const std::string& why) {
  auto built = build(s, x, name, why);
  return built && x.klass != "RemoteVM" ? unmark(s, name, unfinished) : built;
}

} // namespace

expected<void> clear_away(session& s, const std::string& name, const std::string& why) {
  auto there = s.daemon.ask({"admin.vm.List", "", name, ""});
  if (!there && there.error().klass == "QubesVMNotFoundError")
    return {};
  if (!there)
    return tl::unexpected{there.error()};
  auto found = mark_of(s, name, unfinished);
  if (!found)
    return tl::unexpected{found.error()};
  if (*found != why)
    return tl::unexpected{failure{
        trouble::refused, "", fmt::format("there is a domain '{}' already", name),
        found->empty() ? std::string{"choose another name"}
                       : fmt::format("it is what was left of a '{}'; 'qvmctl remove {}' removes it",
                                     *found, name)}};
  return remove_domain(s, name);
}

namespace {

/// Makes all that can be made. `why` marks what is unfinished; `verb` is for refusals.
exit_code make_all(session& s, const design& x, const std::vector<std::string>& names,
                   const std::string& why, const std::string& verb) {
  auto code = exit_code::done;
  auto good = std::size_t{0};
  for (auto& name : names) {
    auto done = expected<void>{};
    if (s.line.dry_run)
      print(s, "would create " + shown(x, name));
    else if ((done = clear_away(s, name, why)))
      done = make(s, x, name, why);
    if (done)
      ++good;
    else
      code = report(s, {done.error().kind, done.error().klass,
                        fmt::format("cannot {} '{}': {}", verb, name, done.error().text),
                        done.error().hint});
  }
  return good > 0 && good < names.size() ? exit_code::partly : code;
}

} // namespace

expected<void> check_new_name(const std::string& name) {
  auto good = check_name(name);
  if (good && name.starts_with("uuid:"))
    return usage_failure(fmt::format("'{}' is no name for a new domain", name));
  return good;
}

pairs read_pools(const std::string& text) {
  if (text.empty())
    return {};
  auto [volume, pool] = cut_pair(text);
  return {pool.empty() ? std::pair{std::string{}, volume} : std::pair{volume, pool}};
}

expected<pairs> read_assignments(const texts& given, std::string_view option) {
  auto result = pairs{};
  for (auto& x : given.all) {
    auto is = x.find('=');
    if (is == std::string::npos || is == 0)
      return usage_failure(fmt::format("{} takes NAME=VALUE, not '{}'", option, x));
    result.push_back(cut_pair(x));
  }
  return result;
}

namespace {

expected<design> read_design(session& s) {
  auto result = design{.label = s.line.label, .tags = s.line.tags};
  if (!s.line.klass.empty())
    result.klass = s.line.klass;
  auto known = std::vector<std::string>(classes.begin(), classes.end());
  if (std::find(known.begin(), known.end(), result.klass) == known.end())
    return usage_failure(fmt::format("no class '{}' can be made", result.klass),
                         one_of(result.klass, known));
  if (result.label.empty())
    return usage_failure("'create' needs --label", "'qvmctl label ls' lists them");
  result.based_on = s.line.based_on;
  if (!result.based_on.empty())
    if (auto good = check_name(result.based_on); !good)
      return tl::unexpected{good.error()};
  if (auto good = model::check_label_name(result.label, false); !good)
    return bad_word(good.error());
  for (auto& x : result.tags)
    if (auto good = model::check_tag(x); !good)
      return bad_word(good.error());
  auto properties = read_assignments(s.line.settings, "--set");
  auto features = read_assignments(s.line.features, "--feature");
  if (!properties || !features)
    return tl::unexpected{properties ? features.error() : properties.error()};
  for (auto& [key, value] : *features)
    if (auto good = model::check_feature_name(key); !good)
      return bad_word(good.error());
  for (auto& [key, value] : *properties)
    key = property_name(key);
  result.properties = std::move(*properties);
  result.features = std::move(*features);
  result.pools = read_pools(s.line.pool);
  return result;
}

} // namespace

exit_code run_create(session& s) {
  for (auto& x : s.line.words)
    if (auto good = check_new_name(x); !good)
      return report(s, good.error());
  auto what = read_design(s);
  if (!what)
    return report(s, what.error());
  auto labels = s.daemon.ask({.method = "admin.label.List"});
  if (!labels)
    return report(s, labels.error());
  auto known = lines_of(*labels);
  if (std::find(known.begin(), known.end(), what->label) == known.end())
    return report(s, {trouble::refused, "", fmt::format("no label '{}'", what->label),
                      one_of(what->label, known)});
  return make_all(s, *what, s.line.words, "create", "create");
}

namespace {

/// Properties that belong to one domain and not to its copy.
constexpr std::array own{"name",  "qid",         "uuid",       "template",
                         "label", "dispid",      "start_time", "installed_by_rpm",
                         "xid",   "stubdom_xid", "icon"};

} // namespace

bool is_copied(const std::string& feature) {
  return feature != unfinished && feature != renamed_to && feature != "deferred-netvm-original"
         && (!feature.starts_with("preload-dispvm") || feature == "preload-dispvm-max");
}

namespace {

/// Reads a domain whole.
expected<design> read_domain(session& s, const std::string& name) {
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return tl::unexpected{all.error()};
  auto chosen = all->choose({name});
  if (!chosen)
    return tl::unexpected{chosen.error()};
  auto& from = *chosen->front();
  if (from.klass == "AdminVM")
    return usage_failure(fmt::format("'{}' is the host; it can have no copy", from.name));
  auto result = design{.klass = from.klass,
                       .based_on = from.based_on.value_or(""),
                       .label = from.label,
                       .source = from.klass == "RemoteVM" ? "" : from.name};
  auto classes = device_classes(s);
  if (!classes)
    return tl::unexpected{classes.error()};
  auto asked = std::vector<request>{property_request("GetAll", from.name, ""),
                                    {"admin.vm.tag.List", "", from.name, ""},
                                    {"admin.vm.feature.List", "", from.name, ""},
                                    {"admin.vm.notes.Get", "", from.name, ""}};
  constexpr auto fixed = std::size_t{4};
  auto local = from.klass != "RemoteVM";
  if (local) {
    asked.push_back({"admin.vm.firewall.Get", "", from.name, ""});
    asked.push_back({"admin.vm.volume.List", "", from.name, ""});
    for (auto& x : *classes)
      asked.push_back({fmt::format("admin.vm.device.{}.Assigned", x), "", from.name, ""});
  }
  auto answers = ask_all(s, asked);
  for (auto& x : answers)
    if (!x)
      return tl::unexpected{x.error()};
  auto properties = parse_properties(*answers[0]);
  if (!properties)
    return tl::unexpected{properties.error()};
  for (auto& [key, value] : *properties)
    if (!value.at_default && std::find(own.begin(), own.end(), key) == own.end())
      result.properties.emplace_back(key, value.text);
  for (auto& tag : lines_of(*answers[1]))
    if (!tag.starts_with("created-by-"))
      result.tags.push_back(tag);
  auto features = std::vector<request>{};
  for (auto& x : lines_of(*answers[2]))
    if (is_copied(x))
      features.push_back({"admin.vm.feature.Get", x, from.name, ""});
  auto values = ask_all(s, features);
  for (auto i = std::size_t{0}; i < features.size(); ++i)
    if (values[i])
      result.features.emplace_back(features[i].argument, *values[i]);
    else if (values[i].error().klass != "QubesFeatureNotFoundError")
      return tl::unexpected{values[i].error()};
  result.notes = *answers[3];
  if (!local)
    return result;
  result.firewall = *answers[fixed];
  for (auto& x : lines_of(*answers[fixed + 1])) {
    auto info = s.daemon.ask({"admin.vm.volume.Info", x, from.name, ""});
    if (!info)
      return tl::unexpected{info.error()};
    auto facts = pairs_of(*info);
    if (value_of(facts, "rw") == "True" && value_of(facts, "snap_on_start") != "True")
      result.pools.emplace_back(x, value_of(facts, "pool"));
  }
  for (auto i = std::size_t{0}; i < classes->size(); ++i)
    for (auto& line : lines_of(*answers[fixed + 2 + i]))
      if (auto x = parse_assigned((*classes)[i], line))
        result.devices.push_back(std::move(*x));
  return result;
}

} // namespace

exit_code run_clone(session& s) {
  const auto from = s.line.words.front();
  const auto targets = std::vector<std::string>(s.line.words.begin() + 1, s.line.words.end());
  if (auto good = check_name(from); !good)
    return report(s, good.error());
  for (auto& x : targets)
    if (auto good = check_new_name(x); !good)
      return report(s, good.error());
  auto what = read_domain(s, from);
  if (!what)
    return report(s, what.error());
  if (!s.line.pool.empty())
    what->pools = read_pools(s.line.pool);
  return make_all(s, *what, targets, "clone of " + from, fmt::format("clone '{}' to", from));
}

namespace {

std::string who_needs(const std::vector<reference>& all) {
  auto result = std::vector<std::string>{};
  for (auto& x : all)
    result.push_back(x.text());
  return fmt::format("{}", fmt::join(result, ", "));
}

/// "private 2.0 GiB (used 12 MiB)"
std::string volumes_text(session& s, const std::string& name) {
  auto names = s.daemon.ask({"admin.vm.volume.List", "", name, ""});
  auto result = std::vector<std::string>{};
  for (auto& x : names ? lines_of(*names) : std::vector<std::string>{}) {
    auto info = s.daemon.ask({"admin.vm.volume.Info", x, name, ""});
    auto facts = info ? pairs_of(*info) : pairs{};
    if (value_of(facts, "save_on_stop") == "True")
      result.push_back(
          fmt::format("{} {} ({} used)", x,
                      size_text(std::strtoll(value_of(facts, "size").c_str(), nullptr, 10)),
                      size_text(std::strtoll(value_of(facts, "usage").c_str(), nullptr, 10))));
  }
  return fmt::format("{}", fmt::join(result, ", "));
}

/// Why it cannot be removed now, as far as can be known before.
expected<void> may_be_removed(session& s, const entry& x) {
  if (x.klass == "AdminVM")
    return tl::unexpected{failure{trouble::refused, "", "dom0 cannot be removed", ""}};
  if (x.active())
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("'{}' is {} and must be Halted", x.name, x.state),
                                  fmt::format("'qvmctl shutdown --wait {}' first", x.name)}};
  auto users = references_to(s, x.name);
  if (!users)
    return tl::unexpected{users.error()};
  if (!users->empty())
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("'{}' is in use: {}", x.name, who_needs(*users)),
                                  "change these first"}};
  return {};
}

} // namespace

exit_code run_remove(session& s) {
  auto all = domain_list::fetch(s.daemon);
  auto chosen = all ? all->choose(s.line.words) : tl::unexpected{all.error()};
  if (!chosen)
    return report(s, chosen.error());
  auto code = exit_code::done;
  auto chosen_names = std::vector<std::string>{};
  for (auto x : *chosen) {
    if (auto may = may_be_removed(s, *x); !may) {
      code = report(s, may.error());
      continue;
    }
    auto lost = volumes_text(s, x->name);
    chosen_names.push_back(x->name);
    auto line = fmt::format("{} {} ({}){}{}\n", s.line.dry_run ? "would remove" : "removes",
                            x->name, x->klass, lost.empty() ? "" : ", its data is lost: ", lost);
    if (s.line.dry_run)
      print(s, line);
    else if (!s.line.yes)
      write_err(line);
  }
  auto left_out = chosen_names.size() < chosen->size();
  if (chosen_names.empty() || s.line.dry_run)
    return left_out && !chosen_names.empty() ? exit_code::partly : code;
  if (auto sure = confirm(s, fmt::format("remove {}", fmt::join(chosen_names, ", "))); !sure)
    return report(s, sure.error());
  auto changes = std::vector<change>{};
  for (auto& x : chosen_names)
    changes.push_back({{"admin.vm.Remove", "", x, ""}, x});
  auto result = make_changes(s, changes);
  return result == exit_code::done && left_out ? exit_code::partly : result;
}

namespace {

/// One reference goes from one domain to another. A device is assigned anew before it is given up.
expected<void> move_reference(session& s, const reference& x, const std::string& from,
                              const std::string& to) {
  if (!x.property.empty())
    return done_or(s.daemon.ask(property_request("Set", x.owner, x.property, to)));
  auto method = [&](std::string_view what) {
    return fmt::format("admin.vm.device.{}.{}", x.klass, what);
  };
  auto given = done_or(s.daemon.ask(
      {method("Assign"), fmt::format("{}+{}", to, x.argument), x.owner, serialize(x.how)}));
  if (!given && given.error().klass != "DeviceAlreadyAssigned")
    return given;
  return done_or(
      s.daemon.ask({method("Unassign"), fmt::format("{}+{}", from, x.argument), x.owner, ""}));
}

/// From one name to the other, in steps that a second run finds and goes on with:
/// 1. the old domain is marked with the new name, 2. a copy is made, marked as unfinished,
/// 3. the copy is marked as whole, 4. who needs the old one is given the new one,
/// 5. the old one is removed, 6. the mark of the new one goes.
class renaming {
public:
  renaming(session& s, std::string from, std::string to)
      : s_(s), from_(std::move(from)), to_(std::move(to)), copying_("rename of " + from_),
        moving_("move of " + from_) {}

  expected<void> run() {
    auto all = domain_list::fetch(s_.daemon);
    if (!all)
      return tl::unexpected{all.error()};
    auto copy = all->find(to_);
    auto stage = copy ? mark_of(s_, to_, unfinished) : std::string{};
    if (!stage)
      return tl::unexpected{stage.error()};
    if (*stage == moving_ && !all->find(from_))
      return unmark(s_, to_, unfinished);
    auto found = all->choose({from_});
    if (!found)
      return tl::unexpected{found.error()};
    auto users = references_to(s_, from_);
    if (!users)
      return tl::unexpected{users.error()};
    auto whole = *stage == moving_;
    if (auto may = check(*found->front(), *all, *users, copy && !whole, *stage); !may)
      return may;
    if (s_.line.dry_run)
      return tell(*users);
    if (!whole)
      if (auto made = copy_domain(copy != nullptr); !made)
        return made;
    return move(*users);
  }

private:
  expected<void> refuse(std::string text, std::string hint) const {
    return tl::unexpected{failure{trouble::refused, "", std::move(text), std::move(hint)}};
  }

  expected<void> check(const entry& x, const domain_list& all, const std::vector<reference>& users,
                       bool taken, const std::string& stage) {
    if (x.klass == "AdminVM")
      return refuse("dom0 cannot be renamed", "");
    if (x.active())
      return refuse(fmt::format("'{}' is {} and must be Halted", from_, x.state),
                    fmt::format("'qvmctl shutdown --wait {}' first", from_));
    if (x.klass == "DispVM") {
      auto value = s_.daemon.ask(property_request("Get", from_, "auto_cleanup"));
      if (value && value->ends_with("True"))
        return refuse(fmt::format("'{}' is a disposable that goes when it halts", from_), "");
    }
    auto intent = mark_of(s_, from_, renamed_to);
    if (!intent)
      return tl::unexpected{intent.error()};
    // Made by an earlier run that got no further than to create it, or to fill it.
    if (taken && stage != copying_ && (!stage.empty() || *intent != to_))
      return refuse(fmt::format("there is a domain '{}' already", to_), "choose another name");
    for (auto& y : users)
      if (auto user = all.find(y.owner); user && user->active() && y.property == "template")
        return refuse(
            fmt::format("'{}' is {} and its template cannot change", y.owner, user->state),
            fmt::format("'qvmctl shutdown --wait {}' first", y.owner));
      else if (user && user->active() && y.property == "netvm")
        return refuse(fmt::format("'{}' is {} and would lose its network", y.owner, user->state),
                      fmt::format("'qvmctl shutdown --wait {}' first", y.owner));
      else if (user && user->active() && y.property.empty())
        return refuse(fmt::format("'{}' is {} and has its devices", y.owner, user->state),
                      fmt::format("'qvmctl shutdown --wait {}' first", y.owner));
    return {};
  }

  expected<void> tell(const std::vector<reference>& users) {
    auto text = fmt::format("would rename {} to {}\n", from_, to_);
    for (auto& x : users)
      text += fmt::format("would set {}: {} -> {}\n", x.text(), from_, to_);
    print(s_, text);
    return {};
  }

  expected<void> copy_domain(bool left_over) {
    if (left_over)
      if (auto gone = remove_domain(s_, to_); !gone)
        return gone;
    auto what = read_domain(s_, from_);
    if (!what)
      return tl::unexpected{what.error()};
    auto installed = s_.daemon.ask(property_request("Get", from_, "installed_by_rpm"));
    if (installed && installed->ends_with("True"))
      return refuse(fmt::format("'{}' was installed by the package manager", from_),
                    "clone it instead");
    // What names itself shall not name what goes.
    auto itself = std::vector<std::string>{};
    std::erase_if(what->properties, [&](auto& x) {
      if (x.second == from_)
        itself.push_back(x.first);
      return x.second == from_;
    });
    if (auto marked = mark(s_, from_, renamed_to, to_); !marked)
      return marked;
    auto built = build(s_, *what, to_, copying_);
    for (auto& x : itself)
      if (built)
        built = done_or(s_.daemon.ask(property_request("Set", to_, x, to_)));
    if (built)
      return mark(s_, to_, unfinished, moving_);
    unmark(s_, from_, renamed_to);
    return built;
  }

  expected<void> move(const std::vector<reference>& users) {
    for (auto i = std::size_t{0}; i < users.size(); ++i) {
      auto moved = move_reference(s_, users[i], from_, to_);
      if (!moved)
        return undo(users, i, std::move(moved.error()));
    }
    if (auto gone = remove_domain(s_, from_); !gone)
      return undo(users, users.size(), std::move(gone.error()));
    return unmark(s_, to_, unfinished);
  }

  /// Back to the old name, when somebody may not be given the new one.
  expected<void> undo(const std::vector<reference>& users, std::size_t moved, failure why) {
    auto back = expected<void>{};
    for (auto i = moved; back && i-- > 0;)
      back = move_reference(s_, users[i], to_, from_);
    if (back)
      back = remove_domain(s_, to_);
    if (back)
      back = unmark(s_, from_, renamed_to);
    if (!back)
      why.hint = fmt::format("and not undone: {}; 'qvmctl rename {} {}' goes on where it stopped",
                             back.error().message(), from_, to_);
    else if (why.hint.empty())
      why.hint = "nothing was changed";
    return tl::unexpected{std::move(why)};
  }

  session& s_;
  std::string from_, to_;
  std::string copying_, moving_;
};

} // namespace

exit_code run_rename(session& s) {
  const auto& from = s.line.words[0];
  const auto& to = s.line.words[1];
  for (auto& x : s.line.words)
    if (auto good = check_new_name(x); !good)
      return report(s, good.error());
  if (from == to)
    return report(s, usage_failure(fmt::format("'{}' has that name", from)).value());
  auto done = renaming{s, from, to}.run();
  if (done)
    return exit_code::done;
  return report(s, {done.error().kind, done.error().klass,
                    fmt::format("cannot rename '{}' to '{}': {}", from, to, done.error().text),
                    done.error().hint});
}

} // namespace qubes::ctl
