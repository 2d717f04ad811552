// Reading policy files: fail closed. A line that cannot be read might have denied anything, so
// from its place on everything is denied; what stands before it holds.
#include "model/policy/policy.hpp"

#include "model/base/literal.hpp"
#include "model/base/name.hpp"
#include "model/base/split.hpp"
#include "model/base/utf8.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>

namespace qubes::model {

namespace {

using kind = policy_party::kind;

constexpr auto suffix = std::string_view{".policy"};
constexpr auto call_characters =
    std::string_view{"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-._"};
constexpr auto file_characters = std::string_view{"abcdefghijklmnopqrstuvwxyz0123456789_.-"};

bool has_only(std::string_view text, std::string_view characters) {
  return text.find_first_not_of(characters) == text.npos;
}

/// Split as qrexec does, which is written in Python.
std::vector<std::string> python_words(std::string_view line) {
  auto result = std::vector<std::string>{};
  auto inside = false;
  while (!line.empty()) {
    auto blank = blank_length(line);
    if (blank == 0 && !std::exchange(inside, true))
      result.emplace_back();
    auto length = std::max(blank, std::size_t{1});
    if (blank == 0)
      result.back() += line[0];
    else
      inside = false;
    line.remove_prefix(length);
  }
  return result;
}

/// The first line and what ends it: LF, CR or both.
struct line_end {
  std::size_t at, next;
};

line_end end_of_line(std::string_view text) {
  auto at = std::min(text.find_first_of("\r\n"), text.size());
  return {at, std::min(at + (text.substr(at).starts_with("\r\n") ? 2 : 1), text.size())};
}

std::string joined(const std::string& directory, const std::string& path) {
  return path.starts_with('/') ? path : directory + '/' + path;
}

error unreadable(std::string text, std::string hint = {}) {
  return {errc::value, std::move(text), std::move(hint)};
}

// -- columns ------------------------------------------------------------------------------------

/// Which words a column takes beyond names.
enum class column : std::uint8_t { source, target, redirect };

struct keyword {
  std::string_view text; ///< a prefix when it ends with a colon
  kind who;
  bool source, target, redirect;
};

// Of two prefixes that fit, the longer stands first.
constexpr keyword keywords[]{
    {"*", kind::anyone, true, true, false},
    {"@adminvm", kind::dom0, true, true, true},
    {"@anyvm", kind::not_dom0, true, true, false},
    {"@default", kind::gone, false, true, false},
    {"@tag:", kind::tag, true, true, false},
    {"@type:", kind::type, true, true, false},
    {"@dispvm", kind::disposable, false, true, true},
    {"@dispvm:@tag:", kind::disposable, true, true, false},
    {"@dispvm:", kind::disposable, true, true, true},
};

outcome<policy_party> parse_party(const std::string& word, column where) {
  if (word == "dom0" || word == fmt::format("uuid:{}", dom0_uuid))
    return policy_party{kind::dom0};
  if (!word.empty() && !word.starts_with('@') && word != "*")
    return policy_party{kind::name, word};
  for (auto& x : keywords) {
    auto prefix = x.text.ends_with(':');
    if (prefix ? !word.starts_with(x.text) : word != x.text)
      continue;
    auto rest = prefix ? word.substr(x.text.size()) : std::string{};
    auto fits = where == column::source   ? x.source
                : where == column::target ? x.target
                                          : x.redirect;
    if (!fits || (prefix && (rest.empty() || rest.starts_with('@'))))
      break;
    return policy_party{x.who, std::move(rest)};
  }
  constexpr std::string_view columns[] = {"source", "target", "target="};
  return tl::unexpected{unreadable(
      fmt::format("{} is no {}", quoted(word), columns[static_cast<std::size_t>(where)]),
      "write a name, @adminvm, @anyvm, @tag:TAG, @type:CLASS, @dispvm:NAME or *, as the column "
      "allows")};
}

/// A service with its argument, as rules and !include-service name them.
struct called {
  std::string service, argument;
};

outcome<called> parse_call(const std::string& service, const std::string& argument) {
  auto result = called{service == "*" ? "" : service, argument == "*" ? "" : argument};
  if (!has_only(result.service, call_characters) || result.service.find('+') != std::string::npos)
    return tl::unexpected{unreadable(fmt::format("{} is no service", quoted(service)))};
  if (!has_only(result.argument, call_characters)
      || (!result.argument.empty() && !result.argument.starts_with('+')))
    return tl::unexpected{unreadable(fmt::format("{} is no argument", quoted(argument)),
                                     "an argument begins with '+'; '*' means any")};
  if (result.service.empty() && !result.argument.empty())
    return tl::unexpected{unreadable("a rule for any service takes any argument", "write '* *'")};
  return result;
}

outcome<bool> parse_switch(const std::string& key, const std::string& text) {
  if (text == "yes" || text == "no")
    return text == "yes";
  return tl::unexpected{unreadable(fmt::format("{}={} is neither yes nor no", key, quoted(text)))};
}

outcome<void> take_parameter(policy_rule& to, const std::string& key, const std::string& text) {
  auto denies = to.action == policy_action::deny;
  if (key == "notify")
    return parse_switch(key, text).map([](bool) {});
  if (!denies && key == "autostart")
    return parse_switch(key, text).map([&](bool x) { to.autostart = x; });
  if (!denies && key == "user")
    return {};
  if (!denies && key == "target")
    return parse_party(text, column::redirect).map([&](policy_party x) {
      to.redirect = std::move(x);
    });
  if (to.action == policy_action::ask && key == "default_target")
    return parse_party(text, column::redirect).map([](const policy_party&) {});
  return tl::unexpected{unreadable(fmt::format("this action has no parameter {}", quoted(key)))};
}

outcome<void> take_action(policy_rule& to, const std::string& word) {
  if (word == "allow")
    to.action = policy_action::allow;
  else if (word == "ask")
    to.action = policy_action::ask;
  else if (word != "deny")
    return tl::unexpected{unreadable(fmt::format("{} is no action", quoted(word)),
                                     "actions are allow, ask and deny")};
  return {};
}

/// SOURCE TARGET ACTION [KEY=VALUE...]
outcome<policy_rule> parse_rule(const called& what, std::span<const std::string> words) {
  if (words.size() < 3)
    return tl::unexpected{
        unreadable("the line is too short", "a rule is SERVICE ARGUMENT SOURCE TARGET ACTION")};
  auto result =
      policy_rule{.service = what.service, .argument = what.argument, .source = {}, .target = {}};
  auto source = parse_party(words[0], column::source);
  auto target = parse_party(words[1], column::target);
  if (!source || !target)
    return tl::unexpected{source ? target.error() : source.error()};
  result.source = std::move(*source);
  result.target = std::move(*target);
  if (auto fine = take_action(result, words[2]); !fine)
    return tl::unexpected{fine.error()};
  auto seen = std::set<std::string>{};
  for (auto& word : words.subspan(3)) {
    auto given = key_value_of(word);
    if (!given || !seen.emplace(given->key).second)
      return tl::unexpected{
          unreadable(fmt::format("{} is no parameter, or stands twice", quoted(word)),
                     "parameters are KEY=VALUE")};
    if (auto fine = take_parameter(result, std::string{given->key}, std::string{given->value});
        !fine)
      return tl::unexpected{fine.error()};
  }
  if (result.target.who == kind::gone && result.action == policy_action::allow && !result.redirect)
    return tl::unexpected{unreadable("allow for @default leads nowhere", "add target=")};
  return result;
}

// -- files --------------------------------------------------------------------------------------

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (auto at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

class reader {
public:
  reader(const policy_files& from, const policy_paths& where) : from_(from), where_(where) {}

  policy read() && {
    auto files = std::map<std::string, std::string>{}; // name -> directory
    auto found = false;
    for (auto& directory : where_.directories) {
      auto names = from_.list(directory);
      if (!names) {
        block(directory, names.error());
        return std::move(result_);
      }
      found |= names->has_value();
      for (auto& name : names->value_or(std::vector<std::string>{}))
        files.emplace(name, directory);
    }
    if (!found)
      finding("policy.d", "there is no policy; others than dom0 see nothing");
    for (auto& [name, directory] : files)
      read_listed(directory, name);
    return std::move(result_);
  }

private:
  void finding(std::string_view where, std::string_view text) {
    if (result_.findings.size() < most_findings)
      result_.findings.push_back({one_line(where), one_line(text)});
  }

  /// Nothing that follows is looked at: a rule that denies everything stands before it.
  void block(const std::string& where, const error& why) {
    finding(where, fmt::format("{}; from here on everything is denied", why.message()));
    result_.rules.emplace_back();
    blocked_ = true;
  }

  void add(const std::string& where, policy_rule rule) {
    if (result_.rules.size() >= policy_rules)
      return block(where, unreadable(fmt::format("more than {} rules", policy_rules)));
    for (auto* x : {&rule.source, &rule.target})
      if (x->who == kind::name && !x->text.starts_with("uuid:") && !domain_name::parse(x->text))
        finding(where, fmt::format("{} names no domain; the rule fits nothing", quoted(x->text)));
    result_.rules.push_back(std::move(rule));
  }

  /// A file of a directory; those that are no policy are left alone.
  void read_listed(const std::string& directory, const std::string& name) {
    if (blocked_ || name.starts_with('.') || !name.ends_with(suffix))
      return;
    auto path = directory + '/' + name;
    if (!has_only(name, file_characters))
      return block(path, unreadable("the file's name has other characters than a-z, 0-9, _ . -"));
    auto outermost = open_.empty();
    if (outermost)
      base_ = directory;
    read_file(path, path, nullptr);
  }

  /// `only`: the file has no columns for service and argument; they are these.
  void read_file(const std::string& path, const std::string& who_asks, const called* only) {
    if (blocked_)
      return;
    if (std::ranges::find(open_, path) != open_.end())
      return block(who_asks, unreadable(fmt::format("{} includes itself", path)));
    if (open_.size() >= policy_depth)
      return block(who_asks, unreadable(fmt::format("more than {} files deep", policy_depth)));
    auto text = from_.read(path);
    if (!text)
      return block(who_asks, text.error());
    // An empty file costs something too: many of them, included by many, must end.
    bytes_ += text->size() + 64;
    if (bytes_ > policy_bytes)
      return block(who_asks, unreadable(fmt::format("more than {} bytes of policy", policy_bytes)));
    open_.push_back(path);
    auto rest = std::string_view{*text};
    for (auto number = 1; !rest.empty() && !blocked_; ++number) {
      auto [end, next] = end_of_line(rest);
      auto where = fmt::format("{}:{}", path, number);
      auto done = only ? read_line_of(*only, std::string{rest.substr(0, end)}, where)
                       : read_line(rest.substr(0, end), where);
      if (!done)
        block(where, done.error());
      rest.remove_prefix(next);
    }
    open_.pop_back();
  }

  static outcome<std::vector<std::string>> split(std::string_view line) {
    if (!is_utf8(line))
      return tl::unexpected{unreadable("the line is no UTF-8")};
    auto words = python_words(line);
    if (!words.empty() && words[0].starts_with('#'))
      words.clear();
    return words;
  }

  outcome<void> read_line(std::string_view line, const std::string& where) {
    auto words = split(line);
    if (!words)
      return tl::unexpected{words.error()};
    if (words->empty())
      return {};
    if (words->front().starts_with('!'))
      return obey(*words, where);
    if (words->size() < 2)
      return tl::unexpected{
          unreadable("the line is too short", "a rule is SERVICE ARGUMENT SOURCE TARGET ACTION")};
    auto what = parse_call((*words)[0], (*words)[1]);
    if (!what)
      return tl::unexpected{what.error()};
    return take(parse_rule(*what, std::span{*words}.subspan(2)), where);
  }

  /// The older format, in files for one service.
  outcome<void> read_line_of(const called& what, std::string line, const std::string& where) {
    replace_all(line, "$include:", "!include ");
    replace_all(line, "$", "@");
    replace_all(line, ",", " ");
    auto words = split(line);
    if (!words)
      return tl::unexpected{words.error()};
    if (words->empty())
      return {};
    if (words->front() == "!include" && words->size() == 2) {
      read_file(joined(base_, (*words)[1]), where, &what);
      return {};
    }
    if (words->front().starts_with('!'))
      return tl::unexpected{
          unreadable(fmt::format("{} stands for nothing here", quoted(words->front())))};
    return take(parse_rule(what, *words), where);
  }

  outcome<void> take(outcome<policy_rule> rule, const std::string& where) {
    if (!rule)
      return tl::unexpected{rule.error()};
    add(where, std::move(*rule));
    return {};
  }

  outcome<void> obey(const std::vector<std::string>& words, const std::string& where) {
    auto& what = words.front();
    if (what == "!include" && words.size() == 2) {
      read_file(joined(base_, words[1]), where, nullptr);
      return {};
    }
    if (what == "!include-dir" && words.size() == 2)
      return read_directory(joined(base_, words[1]), where);
    if (what == "!include-service" && words.size() == 4) {
      auto only = parse_call(words[1], words[2]);
      if (!only)
        return tl::unexpected{only.error()};
      read_file(joined(base_, words[3]), where, &*only);
      return {};
    }
    if (what == "!compat-4.0" && words.size() == 1)
      return read_legacy();
    return tl::unexpected{unreadable(
        fmt::format("{} with {} words after it stands for nothing", quoted(what), words.size() - 1),
        "!include FILE, !include-dir DIRECTORY and !include-service SERVICE ARGUMENT FILE are "
        "known")};
  }

  outcome<void> read_directory(const std::string& path, const std::string& where) {
    auto names = from_.list(path);
    if (!names)
      return tl::unexpected{names.error()};
    if (!names->has_value())
      return tl::unexpected{unreadable(fmt::format("there is no directory {}", path))};
    std::ranges::sort(**names);
    if (open_.size() >= policy_depth)
      return tl::unexpected{unreadable(fmt::format("more than {} files deep", policy_depth))};
    for (auto& name : **names)
      read_listed(path, name);
    if ((*names)->empty())
      finding(where, fmt::format("{} is empty", path));
    return {};
  }

  /// Files named SERVICE or SERVICE+ARGUMENT; the latter go first, and what they do not name is
  /// denied.
  outcome<void> read_legacy() {
    auto names = from_.list(where_.legacy);
    if (!names)
      return tl::unexpected{names.error()};
    auto files = std::map<std::pair<std::string, std::string>, std::string>{};
    for (auto& name : names->value_or(std::vector<std::string>{})) {
      auto ignored = name.starts_with('.') || name.ends_with(".rpmsave")
                     || name.ends_with(".rpmnew") || name.ends_with(".swp")
                     || !has_only(name, call_characters);
      auto plus = std::min(name.find('+'), name.size());
      // '~' sorts behind every argument.
      if (!ignored && plus > 0)
        files[{name.substr(0, plus), plus < name.size() ? name.substr(plus) : "~"}] = name;
    }
    auto base = std::exchange(base_, where_.legacy);
    for (auto& [call, name] : files) {
      auto path = where_.legacy + '/' + name;
      auto any = call.second == "~";
      auto only = called{call.first, any ? "" : call.second};
      read_file(path, path, &only);
      if (!any && !blocked_)
        add(path, {.service = only.service,
                   .argument = only.argument,
                   .source = {kind::not_dom0},
                   .target = {}});
    }
    base_ = std::move(base);
    return {};
  }

  static constexpr auto most_findings = std::size_t{100};

  const policy_files& from_;
  const policy_paths& where_;
  policy result_;
  std::vector<std::string> open_; ///< files being read, outermost first
  std::string base_;              ///< what relative paths are relative to
  std::size_t bytes_ = 0;
  bool blocked_ = false;
};

} // namespace

policy read_policy(const policy_files& from, const policy_paths& where) {
  return reader{from, where}.read();
}

} // namespace qubes::model
