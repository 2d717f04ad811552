// create, clone, remove, rename. What is made here is whole or not there at all: until it is whole
// it has the feature `unfinished`, by which a second run knows what a crash left of the first.
#include "bin/qvmctl/design.hpp"
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/maker.hpp"
#include "model/base/klass.hpp"
#include "model/base/literal.hpp"
#include "model/base/name.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <utility>

namespace qubes::ctl {

namespace {

constexpr auto renamed_to = std::string_view{"qvmctl-rename-to"};
constexpr auto created_by = std::string_view{"created-by-"}; ///< only the daemon gives such tags
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

/// A full disk is a failure.
expected<void> print_or_fail(std::string_view text) {
  if (write_out(text))
    return {};
  return tl::unexpected{failure{
      trouble::refused, "", fmt::format("cannot write the output: {}", std::strerror(errno)), ""}};
}

std::string listed(const pairs& all) {
  auto result = std::vector<std::string>{};
  for (auto& [key, value] : all)
    result.push_back(key.empty() ? value : fmt::format("{}={}", key, value));
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

/// One volume of two domains, as Info tells of it.
struct two_volumes {
  std::string name;
  pairs from, to;

  bool is_copied() const { return value_of(to, "save_on_stop") == "True"; }
};

expected<std::vector<two_volumes>> volumes_of(session& s, const std::string& from,
                                              const std::string& to) {
  auto names = s.daemon.ask({"admin.vm.volume.List", "", to, ""});
  if (!names)
    return tl::unexpected{names.error()};
  auto asked = std::vector<request>{};
  for (auto& x : lines_of(*names))
    for (auto& who : {from, to})
      asked.push_back({"admin.vm.volume.Info", x, who, ""});
  auto answers = ask_all(s, asked);
  auto result = std::vector<two_volumes>{};
  for (auto i = std::size_t{0}; i + 1 < answers.size(); i += 2) {
    if (!answers[i] || !answers[i + 1])
      return tl::unexpected{answers[answers[i] ? i + 1 : i].error()};
    result.push_back({asked[i].argument, pairs_of(*answers[i]), pairs_of(*answers[i + 1])});
  }
  return result;
}

/// What a volume is told besides its data. A size comes with the data, or from the template.
std::vector<request> settings_of(const two_volumes& x, const std::string& to) {
  auto result = std::vector<request>{};
  auto number = [](const pairs& facts, std::string_view key) {
    return number_of(facts, key).value_or(0);
  };
  if (!x.is_copied() && value_of(x.from, "snap_on_start") != "True"
      && number(x.from, "size") > number(x.to, "size"))
    result.push_back({"admin.vm.volume.Resize", x.name, to, value_of(x.from, "size")});
  for (auto key : {"revisions_to_keep", "ephemeral", "rw"})
    if (auto value = value_of(x.from, key); !value.empty() && value != value_of(x.to, key))
      result.push_back({fmt::format("admin.vm.volume.Set.{}", key), x.name, to, value});
  return result;
}

/// How far the copies of a domain's volumes are, as the daemon tells once a second.
class copies_shown {
public:
  copies_shown(const screen& on, std::string to) : area_(on), to_(std::move(to)) {}

  void hear(const event& x) {
    if (x.name != "domain-volume-progress")
      return;
    done_.insert_or_assign(value_of(x.args, "volume"), value_of(x.args, "progress"));
    auto line = to_ + ":";
    for (auto& [volume, percent] : done_)
      line += fmt::format("  {} {} %", printable(volume), printable(percent));
    area_.draw({line});
  }

private:
  live_area area_;
  std::string to_;
  std::map<std::string, std::string> done_;
};

/// All at once; on a terminal it is shown how far they are.
expected<void> copy_all(session& s, const std::string& to, const std::vector<request>& copies) {
  auto shown = copies_shown{s.out, to};
  auto here = listener{};
  if (s.out.terminal)
    s.daemon.subscribe(
        here, {"admin.Events", "", to, ""}, [&](const event& x) { shown.hear(x); },
        [](const failure&) {});
  return all_done(s, copies);
}

/// Volumes that keep what is written to them are copied, all at once; then all get their settings.
expected<void> copy_volumes(session& s, const std::string& from, const std::string& to) {
  auto all = volumes_of(s, from, to);
  if (!all)
    return tl::unexpected{all.error()};
  auto offers = std::vector<request>{};
  for (auto& x : *all)
    if (x.is_copied())
      offers.push_back({"admin.vm.volume.CloneFrom", x.name, from, ""});
  auto tokens = ask_all(s, offers);
  auto copies = std::vector<request>{};
  for (auto i = std::size_t{0}; i < offers.size(); ++i) {
    if (!tokens[i])
      return tl::unexpected{tokens[i].error()};
    copies.push_back({"admin.vm.volume.CloneTo", offers[i].argument, to, *tokens[i]});
  }
  if (auto copied = copy_all(s, to, copies); !copied)
    return copied;
  for (auto& x : *all)
    for (auto& setting : settings_of(x, to))
      if (auto set = all_done(s, {setting}); !set)
        return set;
  return {};
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

/// "" when the domain has no such mark.
expected<std::string> mark_of(session& s, const std::string& name, std::string_view key) {
  auto answer = s.daemon.ask({"admin.vm.feature.Get", std::string{key}, name, ""});
  if (!answer && answer.error().klass == "QubesFeatureNotFoundError")
    return std::string{};
  return answer;
}

} // namespace

expected<void> mark_unfinished(session& s, const std::string& name, const std::string& purpose) {
  return mark(s, name, unfinished, signed_purpose::own(purpose).text());
}

expected<void> remove_domain(session& s, const std::string& name) {
  return all_done(s, {{"admin.vm.Remove", "", name, ""}}); // takes as long as it takes
}

namespace {

/// A name that only this domain ever has: another one may be given its name at any time. Nothing
/// when there is no domain of that name.
expected<std::optional<std::string>> identity_of(session& s, const std::string& name) {
  auto answer = s.daemon.ask({"admin.vm.List", "", name, ""});
  if (!answer && answer.error().klass == "QubesVMNotFoundError")
    return std::nullopt;
  auto found = answer ? domain_list::parse_list(*answer) : tl::unexpected{answer.error()};
  if (!found)
    return tl::unexpected{found.error()};
  auto known = !found->all().empty() && !found->all().front().uuid.empty();
  return known ? "uuid:" + found->all().front().uuid : name;
}

/// Refuses while the qvmctl that signed it may be at work on that domain.
expected<void> check_maker(const signed_purpose& x, const std::string& name) {
  switch (x.maker_is()) {
  case fate::gone: return {};
  case fate::at_work:
    return tl::unexpected{failure{
        trouble::refused, "",
        fmt::format("another qvmctl ({}) is at work on '{}': {}", x.maker_name(), name, x.purpose),
        "wait for it"}};
  case fate::unknown: break;
  }
  return tl::unexpected{failure{
      trouble::refused, "",
      fmt::format("'{}' is half made ({}), and whether its qvmctl is gone cannot be told from here",
                  name, x.purpose),
      fmt::format("when it is, 'qvmctl remove {}' removes what it left", name)}};
}

/// Makes the domain and leaves it marked with `why` as unfinished; nothing stays of a failure.
expected<void> build(session& s, const design& x, const std::string& name, const std::string& why) {
  if (auto made = ask_all(s, {create_request(x, name)}); !made.front())
    return tl::unexpected{x.based_on.empty() ? std::move(made.front().error())
                                             : explain(s, made.front().error(), x.based_on, "")};
  auto mine = identity_of(s, name);
  auto filled = mine ? expected<void>{} : tl::unexpected{mine.error()};
  if (filled && x.klass != "RemoteVM")
    filled = mark_unfinished(s, name, why);
  if (filled)
    filled = fill(s, x, name);
  if (filled)
    return filled;
  auto gone = mine && *mine ? remove_domain(s, **mine) : expected<void>{};
  if (!gone)
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

expected<void> clear_away(session& s, const std::string& name, const std::string& why,
                          bool only_look) {
  auto left = identity_of(s, name);
  if (!left)
    return tl::unexpected{left.error()};
  if (!*left)
    return {};
  auto found = mark_of(s, **left, unfinished);
  if (!found)
    return tl::unexpected{found.error()};
  auto mark = signed_purpose::parse(*found);
  if (found->empty())
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("there is a domain '{}' already", name),
                                  "choose another name"}};
  if (auto may = check_maker(mark, name); !may)
    return may;
  if (mark.purpose != why)
    return tl::unexpected{
        failure{trouble::refused, "", fmt::format("there is a domain '{}' already", name),
                fmt::format("it is what was left of a '{}'; 'qvmctl remove {}' removes it",
                            mark.purpose, name)}};
  if (only_look)
    return {};
  auto gone = remove_domain(s, **left);
  if (!gone && gone.error().klass == "QubesVMNotFoundError") // another run was faster
    return {};
  return gone;
}

namespace {

/// Whether its properties have names that there are and, where that is a domain's, such values. A
/// domain of its class knows the names.
expected<void> could_be_set(session& s, const design& x, const domain_list& all) {
  auto alike = std::ranges::find(all.all(), x.klass, &entry::klass);
  if (alike == all.all().end() || x.properties.empty())
    return {};
  auto answer = s.daemon.ask(property_request("GetAll", alike->name, ""));
  auto properties = answer ? parse_properties(*answer) : tl::unexpected{answer.error()};
  if (!properties)
    return tl::unexpected{properties.error()};
  auto known = std::vector<std::string>{};
  for (auto& y : *properties)
    known.push_back(y.name);
  for (auto& [key, value] : x.properties) {
    auto found = std::ranges::find(*properties, key, &named_property::name);
    if (found == properties->end())
      return tl::unexpected{
          failure{trouble::refused, "",
                  fmt::format("domains of class {} have no property '{}'", x.klass, key),
                  one_of(key, known)}};
    if (auto fits = memory_value(key, value); !fits)
      return tl::unexpected{fits.error()};
    if (found->value.type == "int" && value.find_first_of("0123456789") == std::string::npos)
      return usage_failure(fmt::format("--set {}={}: it is no whole number", key, value),
                           "write it in digits");
    if (found->value.type != "vm")
      continue;
    auto none = means_none(value, all);
    if (!none)
      return tl::unexpected{none.error()};
    if (auto there = all.choose({value}); !*none && !value.empty() && !there)
      return tl::unexpected{failure{there.error().kind, "",
                                    fmt::format("--set {}={}: {}", key, value, there.error().text),
                                    there.error().hint}};
  }
  return {};
}

/// Why making the domain would be refused, as far as that can be told before.
expected<void> could_be_made(session& s, const design& x, const std::string& name,
                             const std::string& why) {
  if (auto free = clear_away(s, name, why, true); !free)
    return free;
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return tl::unexpected{all.error()};
  if (!x.based_on.empty())
    if (auto there = all->choose({x.based_on}); !there)
      return tl::unexpected{there.error()};
  if (auto there = check_pools(s, x.pools); !there)
    return there;
  if (!all->find(name)) // what is left of an earlier run is cleared away first
    if (auto may = would_be_taken(s, create_request(x, name)); !may)
      return may;
  return could_be_set(s, x, *all);
}

/// What making the domain would do, and what can only be told by doing it.
expected<void> tell(session& s, const design& x, const std::string& name, const std::string& why) {
  if (auto could = could_be_made(s, x, name, why); !could)
    return could;
  auto text = "would create " + shown(x, name);
  if (x.source.empty() && !(x.properties.empty() && x.features.empty() && x.tags.empty()))
    text += fmt::format("{}: whether the values fit is known only when it is made\n", name);
  return print_or_fail(text);
}

/// Makes all that can be made. `why` marks what is unfinished; `verb` is for refusals.
exit_code make_all(session& s, const design& x, const std::vector<std::string>& names,
                   const std::string& why, const std::string& verb) {
  auto code = exit_code::done;
  auto good = std::size_t{0};
  for (auto& name : names) {
    auto done = s.line.dry_run ? tell(s, x, name, why) : clear_away(s, name, why);
    if (done && !s.line.dry_run)
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
  if (good && model::lower_case(name) == "none")
    return usage_failure(fmt::format("'{}' is no name for a new domain", name),
                         "where a domain is named, it means no domain");
  return good;
}

expected<pairs> read_pools(const texts& given) {
  auto result = pairs{};
  for (auto& x : given.all) {
    auto [volume, pool] = cut_pair(x);
    if (pool.empty())
      std::swap(volume, pool);
    auto taken =
        std::any_of(result.begin(), result.end(), [&](auto& y) { return y.first == volume; });
    if (taken)
      return usage_failure(volume.empty() ? "--pool POOL is given twice"
                                          : fmt::format("--pool {}=POOL is given twice", volume),
                           "VOLUME=POOL for one volume, once each");
    result.emplace_back(volume, pool);
  }
  return result;
}

expected<void> check_pools(session& s, const pairs& pools) {
  if (pools.empty())
    return {};
  auto names = s.daemon.ask({.method = "admin.pool.List"});
  if (!names)
    return tl::unexpected{names.error()};
  auto known = lines_of(*names);
  for (auto& [volume, pool] : pools)
    if (std::ranges::find(known, pool) == known.end())
      return tl::unexpected{
          failure{trouble::refused, "", fmt::format("no pool '{}'", pool), one_of(pool, known)}};
  return {};
}

expected<pairs> read_assignments(const texts& given, std::string_view option) {
  struct row {
    std::string_view option, form, example;
  };
  constexpr auto forms =
      std::array{row{"--set", "NAME=VALUE", "memory=400"}, row{"--feature", "NAME=VALUE", "gui=1"},
                 row{"--rename", "OLD=NEW", "work=work2"}};
  auto result = pairs{};
  for (auto& x : given.all) {
    auto is = x.find('=');
    auto& form = *std::ranges::find(forms, option, &row::option);
    if (is == std::string::npos || is == 0)
      return usage_failure(fmt::format("{} takes {}, not '{}'", option, form.form, x),
                           fmt::format("for example {} {}", option, form.example));
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
  auto none = means_none(result.based_on, s.daemon);
  if (!none)
    return tl::unexpected{none.error()};
  if (auto klass = model::find_klass(result.klass);
      *none && klass && is(*klass, model::template_based))
    return usage_failure(fmt::format("domains of class {} are based on a template", result.klass),
                         "without --template it is the default template");
  if (auto klass = model::find_klass(result.klass);
      !*none && !result.based_on.empty() && klass && !is(*klass, model::template_based))
    return usage_failure(fmt::format("domains of class {} have no template", result.klass),
                         "leave --template out; 'qvmctl clone' copies one that is there");
  if (*none)
    result.based_on.clear();
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
  return read_pools(s.line.pools).map([&](auto pools) {
    result.pools = std::move(pools);
    return std::move(result);
  });
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
    if (!tag.starts_with(created_by))
      result.tags.push_back(tag);
    else if (tag != "created-by-dom0") // which is what makes the copy
      result.lost.push_back(fmt::format("the tag {}", tag));
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
    auto earlier = s.daemon.ask({"admin.vm.volume.ListSnapshots", x, from.name, ""});
    if (auto kept = earlier ? lines_of(*earlier).size() : 0)
      result.lost.push_back(fmt::format("{} earlier state{} of {}", kept, kept > 1 ? "s" : "", x));
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
  auto pools = read_pools(s.line.pools);
  if (!pools)
    return report(s, pools.error());
  if (!pools->empty())
    what->pools = std::move(*pools);
  return make_all(s, *what, targets, "clone of " + from, fmt::format("clone '{}' to", from));
}

namespace {

std::string text_of_uses(const std::vector<reference>& all) {
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
      result.push_back(fmt::format("{} {} ({} used)", x,
                                   size_text(number_of(facts, "size").value_or(0)),
                                   size_text(number_of(facts, "usage").value_or(0))));
  }
  return fmt::format("{}", fmt::join(result, ", "));
}

/// A domain that is to go, and what needs it.
struct leaving {
  const entry* who;
  std::vector<reference> users{};
  bool stays = false;

  bool is_needed_by(const leaving& x) const {
    return std::any_of(users.begin(), users.end(), [&](auto& y) { return y.owner == x.who->name; });
  }
};

/// Why a domain cannot be removed now, as far as can be known before. Users that go too do not
/// count.
expected<void> may_be_removed(const leaving& x, const std::vector<leaving>& all) {
  if (x.who->klass == "AdminVM")
    return tl::unexpected{failure{trouble::refused, "", "dom0 cannot be removed", ""}};
  if (x.who->active() && x.who->klass != "RemoteVM") // a RemoteVM runs on another host
    return tl::unexpected{
        failure{trouble::refused, "",
                fmt::format("'{}' is {} and must be Halted", x.who->name, x.who->state),
                fmt::format("'qvmctl shutdown --wait {}' first", x.who->name)}};
  auto users = x.users;
  std::erase_if(users, [&](auto& y) {
    return std::any_of(all.begin(), all.end(),
                       [&](auto& z) { return !z.stays && z.who->name == y.owner; });
  });
  if (users.empty())
    return {};
  return tl::unexpected{failure{trouble::refused, "",
                                fmt::format("'{}' is in use: {}", x.who->name, text_of_uses(users)),
                                "change these first"}};
}

/// Tells of domains that cannot go and takes them out, until no domain that stays needs one that
/// goes.
exit_code take_out_staying(session& s, std::vector<leaving>& all) {
  auto code = exit_code::done;
  for (auto changed = true; std::exchange(changed, false);)
    for (auto& x : all)
      if (auto may = x.stays ? expected<void>{} : may_be_removed(x, all); !may) {
        x.stays = changed = true;
        code = report(s, may.error());
      }
  std::erase_if(all, [](auto& x) { return x.stays; });
  return code;
}

/// Domains that are not needed go first. Those that need each other go at last, as the daemon
/// likes.
exit_code remove_all(session& s, std::vector<leaving> all) {
  auto code = exit_code::done;
  while (!all.empty() && (code == exit_code::done || code == exit_code::partly)) {
    auto needed = std::stable_partition(all.begin(), all.end(), [&](auto& x) {
      return std::none_of(all.begin(), all.end(), [&](auto& y) { return x.is_needed_by(y); });
    });
    auto end = needed == all.begin() ? all.end() : needed;
    auto changes = std::vector<change>{};
    for (auto x = all.begin(); x != end; ++x)
      changes.push_back({{"admin.vm.Remove", "", x->who->name, ""}, x->who->name});
    all.erase(all.begin(), end);
    auto now = make_changes(s, changes);
    code = now == exit_code::done ? code : now;
  }
  return code;
}

} // namespace

exit_code run_remove(session& s) {
  auto all = domain_list::fetch(s.daemon);
  auto chosen = all ? all->choose(s.line.words) : tl::unexpected{all.error()};
  if (!chosen)
    return report(s, chosen.error());
  auto going = std::vector<leaving>{};
  for (auto x : *chosen) {
    auto users = x->active() ? expected<std::vector<reference>>{} : references_to(s, x->name);
    if (!users)
      return report(s, users.error());
    going.push_back({x, std::move(*users)});
  }
  auto code = take_out_staying(s, going);
  auto names = std::vector<std::string>{};
  for (auto& x : going) {
    const auto& name = names.emplace_back(x.who->name);
    auto lost = volumes_text(s, name);
    auto line = fmt::format("{} {} ({}){}{}\n", s.line.dry_run ? "would remove" : "removes", name,
                            x.who->klass, lost.empty() ? "" : ", its data is lost: ", lost);
    if (!s.line.dry_run && !s.line.yes)
      write_err(line);
    else if (s.line.dry_run)
      if (auto printed = print(s, line); printed != exit_code::done)
        return printed;
  }
  auto left_out = names.size() < chosen->size();
  if (names.empty() || s.line.dry_run)
    return left_out && !names.empty() ? exit_code::partly : code;
  if (auto sure = confirm(s, fmt::format("remove {}", fmt::join(names, ", "))); !sure)
    return report(s, sure.error());
  auto result = remove_all(s, std::move(going));
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
/// 3. the copy is marked as whole, 4. domains that need the old one get the new one,
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
    auto there = !copy ? std::string{} : copy->uuid.empty() ? to_ : "uuid:" + copy->uuid;
    auto mark = copy ? mark_of(s_, there, unfinished) : std::string{};
    if (!mark)
      return tl::unexpected{mark.error()};
    auto stage = signed_purpose::parse(*mark);
    if (stage.purpose == copying_ || stage.purpose == moving_)
      if (auto may = check_maker(stage, to_); !may)
        return may;
    if (stage.purpose == moving_ && !all->find(from_))
      return unmark(s_, to_, unfinished);
    auto found = all->choose({from_});
    if (!found)
      return tl::unexpected{found.error()};
    auto users = references_to(s_, from_);
    if (!users)
      return tl::unexpected{users.error()};
    auto whole = stage.purpose == moving_;
    if (auto may = check(*found->front(), *all, *users, copy && !whole, stage.purpose); !may)
      return may;
    auto what = whole ? design{} : read_domain(s_, from_);
    if (!what)
      return tl::unexpected{what.error()};
    if (s_.line.dry_run)
      return tell(*users, what->lost);
    if (!what->lost.empty())
      if (auto sure = confirm(
              s_, fmt::format("rename {}, which loses {}", from_, fmt::join(what->lost, ", ")));
          !sure)
        return sure;
    auto mine = whole ? mark_unfinished(s_, to_, moving_) : copy_domain(std::move(*what), there);
    return mine ? move(*users) : mine;
  }

private:
  expected<void> refuse(std::string text, std::string hint) const {
    return tl::unexpected{failure{trouble::refused, "", std::move(text), std::move(hint)}};
  }

  expected<void> check(const entry& x, const domain_list& all, const std::vector<reference>& users,
                       bool taken, const std::string& stage) {
    if (x.klass == "AdminVM")
      return refuse("dom0 cannot be renamed", "");
    if (x.active() && x.klass != "RemoteVM")
      return refuse(fmt::format("'{}' is {} and must be Halted", from_, x.state),
                    fmt::format("'qvmctl shutdown --wait {}' first", from_));
    if (x.klass == "DispVM") {
      auto value = s_.daemon.ask(property_request("Get", from_, "auto_cleanup"));
      if (value && value->ends_with("True"))
        return refuse(fmt::format("'{}' is a disposable that goes when it halts", from_), "");
    }
    auto installed = s_.daemon.ask(property_request("Get", from_, "installed_by_rpm"));
    if (installed && installed->ends_with("True"))
      return refuse(fmt::format("'{}' was installed by the package manager", from_),
                    "clone it instead");
    auto intent = mark_of(s_, from_, renamed_to);
    if (!intent)
      return tl::unexpected{intent.error()};
    // The domain was made by an earlier run that got no further than to create or fill it.
    auto meant = signed_purpose::parse(*intent);
    if (!intent->empty())
      if (auto may = check_maker({"rename to " + meant.purpose, meant.maker}, from_); !may)
        return may;
    if (taken && stage != copying_ && (!stage.empty() || meant.purpose != to_))
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

  expected<void> tell(const std::vector<reference>& users, const std::vector<std::string>& lost) {
    auto text = fmt::format("would rename {} to {}\n", from_, to_);
    for (auto& x : users)
      text += fmt::format("would set {}: {} -> {}\n", x.text(), from_, to_);
    for (auto& x : lost)
      text += fmt::format("would lose {}; --yes says that it is meant\n", x);
    return print_or_fail(text);
  }

  expected<void> copy_domain(design what, const std::string& left_over) {
    if (!left_over.empty())
      if (auto gone = remove_domain(s_, left_over); !gone)
        return gone;
    // What names itself shall not name what goes.
    auto itself = std::vector<std::string>{};
    std::erase_if(what.properties, [&](auto& x) {
      if (x.second == from_)
        itself.push_back(x.first);
      return x.second == from_;
    });
    if (auto marked = mark(s_, from_, renamed_to, signed_purpose::own(to_).text()); !marked)
      return marked;
    auto built = build(s_, what, to_, copying_);
    for (auto& x : itself)
      if (built)
        built = done_or(s_.daemon.ask(property_request("Set", to_, x, to_)));
    if (built)
      return mark_unfinished(s_, to_, moving_);
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

  /// Back to the old name, when a domain may not be given the new one.
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
    return report(
        s, usage_failure(fmt::format("'{}' has that name", from), "choose another name").value());
  auto done = renaming{s, from, to}.run();
  if (done)
    return exit_code::done;
  return report(s, {done.error().kind, done.error().klass,
                    fmt::format("cannot rename '{}' to '{}': {}", from, to, done.error().text),
                    done.error().hint});
}

} // namespace qubes::ctl
