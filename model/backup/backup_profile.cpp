#include "model/backup/backup_profile.hpp"

#include "model/base/literal.hpp"
#include "model/property/property.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>

namespace qubes::model {

namespace {

tl::unexpected<error> refuse(std::string text, std::string hint = {}) {
  return fail(errc::general, "backup profile: " + std::move(text), std::move(hint));
}

outcome<std::string> text_of(const YAML::Node& all, const char* key) {
  auto node = all[key];
  if (!node)
    return refuse(fmt::format("'{}' is missing", key));
  if (!node.IsScalar())
    return refuse(fmt::format("'{}' must be a text", key));
  return node.Scalar();
}

outcome<secret> secret_of(const YAML::Node& all, const char* key) {
  return text_of(all, key).map([](std::string x) {
    auto hidden = secret{x};
    wipe(x);
    return hidden;
  });
}

/// `$` stands for `@`, as in old profiles.
outcome<std::vector<std::string>> domains_of(const YAML::Node& node, const char* key) {
  auto result = std::vector<std::string>{};
  if (!node.IsSequence())
    return refuse(fmt::format("'{}' must be a list", key));
  for (auto& it : node) {
    if (!it.IsScalar())
      return refuse(fmt::format("'{}' must be a list of texts", key));
    auto& text = result.emplace_back(it.Scalar());
    std::ranges::replace(text, '$', '@');
  }
  return result;
}

outcome<std::string> compression_of(const YAML::Node& node) {
  if (!node)
    return "gzip";
  if (!node.IsScalar())
    return refuse("'compression' must be a truth value or the name of a program");
  auto truth = parse_boolean(node.Scalar());
  return !truth ? node.Scalar() : *truth ? "gzip" : "";
}

outcome<backup_profile> read(const YAML::Node& tree) {
  if (!tree.IsMap())
    return refuse("this is no list of KEY: VALUE");
  auto result = backup_profile{};
  auto missing = std::optional<error>{};
  auto take = [&](auto& into, auto&& value) {
    if (value)
      into = std::move(*value);
    else if (!missing)
      missing = std::move(value.error());
  };
  auto include = tree["include"];
  if (!include)
    return refuse("'include' is missing",
                  "list domains, or leave its value out for the usual ones");
  take(result.destination_vm, text_of(tree, "destination_vm"));
  take(result.destination_path, text_of(tree, "destination_path"));
  if (!include.IsNull())
    take(result.include, domains_of(include, "include"));
  if (auto exclude = tree["exclude"]; exclude && !exclude.IsNull())
    take(result.exclude, domains_of(exclude, "exclude"));
  take(result.compression, compression_of(tree["compression"]));
  if (tree["passphrase_text"])
    take(result.passphrase_text, secret_of(tree, "passphrase_text"));
  if (tree["passphrase_vm"])
    take(result.passphrase_vm, text_of(tree, "passphrase_vm"));
  if (missing)
    return tl::unexpected{std::move(*missing)};
  return result;
}

bool matches(const domain& x, std::string_view pattern) {
  constexpr auto tag = std::string_view{"@tag:"};
  constexpr auto type = std::string_view{"@type:"};
  if (pattern.starts_with(tag))
    return x.tags.contains(pattern.substr(tag.size()));
  if (pattern.starts_with(type))
    return row(x.type).name == pattern.substr(type.size());
  return x.name.str() == pattern;
}

bool matches_any(const domain& x, const std::vector<std::string>& patterns) {
  return std::ranges::any_of(patterns, [&](auto& it) { return matches(x, it); });
}

} // namespace

outcome<void> check_profile_name(std::string_view name) {
  if (name.find('/') == name.npos && name.find('\0') == name.npos)
    return {};
  return fail(errc::protocol, fmt::format("{} is no name of a backup profile", quoted(name)),
              "it is the name of a file without its .conf, and has no '/'");
}

outcome<backup_profile> read_backup_profile(std::string_view text) {
  auto hold = wiping_memory{}; // the tree and its parser have the passphrase as well
  try {
    return read(YAML::Load(std::string{text}));
  } catch (const YAML::Exception& x) {
    return refuse(one_line(x.what()));
  }
}

outcome<backup_profile> parse_backup_profile(const system& all, std::string_view text) {
  auto result = read_backup_profile(text);
  if (result && !all.find(result->destination_vm))
    return refuse(
        fmt::format("destination_vm: no such domain: {}", quoted(result->destination_vm)));
  return result;
}

outcome<void> check_passphrase(const system& all, const backup_profile& x) {
  if (x.passphrase_text)
    return {};
  if (x.passphrase_vm.empty())
    return refuse("nobody knows the passphrase", "give passphrase_text or passphrase_vm");
  if (!all.find(x.passphrase_vm))
    return refuse(fmt::format("passphrase_vm: no such domain: {}", quoted(x.passphrase_vm)));
  return {};
}

/// The path with one slash between names and one at the end.
std::string plain(std::string_view path) {
  auto result = std::string{path} + '/';
  auto twice = std::ranges::unique(result, [](char a, char b) { return a == '/' && b == '/'; });
  result.erase(twice.begin(), twice.end());
  return result;
}

/// There a backup could take the place of what is backed up.
bool is_in_state(const host& machine, std::string_view path) {
  return plain(path).starts_with(plain(machine.state_directory));
}

outcome<void> check_makeable(const view& v, const backup_profile& x) {
  if (x.destination_vm == "dom0" && is_in_state(v.machine, x.destination_path))
    return refuse(fmt::format("{} is where the domains themselves are", quoted(x.destination_path)),
                  "choose another destination_path");
  if (auto known = check_passphrase(v.system, x); !known)
    return known;
  for (auto& name : {x.destination_vm, x.passphrase_text ? std::string{} : x.passphrase_vm}) {
    auto* needed = v.system.find(name);
    if (!needed)
      continue;
    if (needed->is(remote_vm))
      return refuse(fmt::format("'{}' is on another host", name));
    if (!is_running(v, *needed))
      return fail(errc::vm_not_running, fmt::format("'{}' does not run", name), "start it first");
  }
  auto chosen = chosen_for_backup(v, x);
  for (auto* it : chosen)
    if (has_unusable_volume(*it))
      return fail(errc::storage,
                  fmt::format("a volume of '{}' in qubes.xml cannot be used, its data would be "
                              "missing",
                              it->name.str()),
                  "leave it out, or repair it: 'qvmctl status' tells which and why");
  for (auto* it : chosen)
    if (it->is(qubes_vm) && is_running(v, *it)
        && std::ranges::any_of(it->volumes, snapshots_disabled))
      return fail(errc::vm_not_halted,
                  fmt::format("'{}' works on a volume in place, which cannot be read meanwhile",
                              it->name.str()),
                  "shut it down first");
  return {};
}

outcome<secret> parse_passphrase(std::string_view text) {
  constexpr auto longest = std::size_t{1024};
  if (text.empty())
    return refuse("the passphrase is empty", "a backup without one would protect nothing");
  if (text.find_first_of(std::string_view{"\n\r\0", 3}) != text.npos)
    return fail(errc::protocol, "the passphrase is more than one line");
  if (text.size() > longest)
    return fail(errc::protocol, fmt::format("the passphrase is longer than {} bytes", longest));
  return secret{text};
}

std::vector<const domain*> chosen_for_backup(const view& v, const backup_profile& x) {
  auto result = std::vector<const domain*>{};
  for (auto& it : v.system.domains) {
    auto wanted =
        x.include ? matches_any(*it, *x.include) : read_bool({v, it.get()}, "include_in_backups");
    if (wanted && !matches_any(*it, x.exclude))
      result.push_back(it.get());
  }
  std::ranges::sort(result, {}, &domain::qid);
  return result;
}

std::vector<std::string> words_without_effect(const system& all, const backup_profile& x) {
  auto result = std::vector<std::string>{};
  for (auto& words : {x.include.value_or(std::vector<std::string>{}), x.exclude})
    for (auto& word : words)
      if (std::ranges::none_of(all.domains, [&](auto& it) { return matches(*it, word); }))
        result.push_back(word);
  return result;
}

} // namespace qubes::model
