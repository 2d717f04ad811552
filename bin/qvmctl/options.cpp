#include "bin/qvmctl/options.hpp"

#include "bin/qvmctl/domains.hpp"
#include "bin/qvmctl/suggestion.hpp"
#include "model/base/split.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iterator>

namespace qubes::ctl {

namespace {

// clang-format off
constexpr std::array option_table{
  option_row{opt_all,      '\0', "--all",      "",           "every domain but dom0 that the command fits",                 &command_line::all},
  option_row{opt_exclude,  '\0', "--exclude",  "DOMAIN",     "leave out a name or glob; may be repeated",                   &command_line::exclude},
  option_row{opt_wait,     '\0', "--wait",     "[=SECONDS]", "return when the new state is reached, or give up after SECONDS", &command_line::wait},
  option_row{opt_force,    '\0', "--force",    "",           "shut down although clients are connected",                    &command_line::force},
  option_row{opt_cascade,  '\0', "--cascade",  "",           "shut down the running clients of a netvm first",              &command_line::cascade},
  option_row{opt_host,     '\0', "--host",     "",           "the global properties instead of a domain's (as DOMAIN @host)", &command_line::host},
  option_row{opt_state,    '\0', "--for",      "STATE",      "the state to wait for (default: Running)",                    &command_line::state},
  option_row{opt_seconds,  '\0', "--for",      "SECONDS",    "end after this time",                                         &command_line::seconds},
  option_row{opt_timeout,  '\0', "--timeout",  "SECONDS",    "give up after this time",                                     &command_line::timeout},
  option_row{opt_json,     '\0', "--json",     "",           "one JSON object per line",                                    &command_line::json},
  option_row{opt_dry_run,  '\0', "--dry-run",  "",           "print what would be done and change nothing",                 &command_line::dry_run},
  option_row{opt_plain,    '\0', "--plain",    "",           "without the site's changes",                                  &command_line::plain},
  option_row{opt_diff,     '\0', "--diff",     "",           "what the site's changes add (+) and take away (-)",           &command_line::diff},
  option_row{opt_yes,      'y',  "--yes",      "",           "do it without asking",                                        &command_line::yes},
  option_row{opt_class,    'C',  "--class",    "CLASS",      "AppVM, TemplateVM, StandaloneVM, DispVM or RemoteVM (default: AppVM)", &command_line::klass},
  option_row{opt_template, 't',  "--template", "TEMPLATE",   "what it is based on (default: the default template)",         &command_line::based_on},
  option_row{opt_label,    'l',  "--label",    "LABEL",      "colour of its windows",                                       &command_line::label},
  option_row{opt_pool,     'P',  "--pool",     "POOL",       "where its volumes are kept; VOLUME=POOL for one of them, may be repeated", &command_line::pools},
  option_row{opt_set,      '\0', "--set",      "P=V",        "set a property; may be repeated",                             &command_line::settings},
  option_row{opt_feature,  '\0', "--feature",  "F=V",        "set a feature; may be repeated",                              &command_line::features},
  option_row{opt_tag,      '\0', "--tag",      "TAG",        "add a tag; may be repeated",                                  &command_line::tags},
  option_row{opt_before,   '\0', "--before",   "N",          "put the rule before that one",                                &command_line::before},
  option_row{opt_expire,   '\0', "--expire",   "WHEN",       "+SECONDS from now, or seconds since 1970",                    &command_line::expire},
  option_row{opt_comment,  '\0', "--comment",  "TEXT",       "what the rule is for",                                        &command_line::comment},
  option_row{opt_read_only, '\0', "--read-only", "",         "the domain may not write to it",                              &command_line::read_only},
  option_row{opt_option,   '\0', "--option",   "K=V",        "an option of the device; may be repeated",                    &command_line::device_options},
  option_row{opt_required, '\0', "--required", "",           "the domain does not start without it",                        &command_line::required},
  option_row{opt_ask,      '\0', "--ask",      "",           "the user is asked each time it appears",                      &command_line::ask},
  option_row{opt_user,     'u',  "--user",     "USER",       "who runs it (default: the domain's default_user)",            &command_line::user},
  option_row{opt_start,    '\0', "--start",    "",           "start the domain if it does not run",                         &command_line::start},
  option_row{opt_only,     '\0', "--class",    "CLASS",      "only domains of that class; several with commas",             &command_line::only_classes},
  option_row{opt_only,     '\0', "--state",    "STATE",      "only domains in that state; several with commas",             &command_line::states},
  option_row{opt_only,     '\0', "--label",    "LABEL",      "only domains with that label; several with commas",           &command_line::only_labels},
  option_row{opt_only,     '\0', "--template", "TEMPLATE",   "only domains based on it; 'none': on no template; several with commas", &command_line::only_templates},
  option_row{opt_only,     '\0', "--netvm",    "NETVM",      "only its clients; 'none': only domains without network; several with commas", &command_line::only_netvms},
  option_row{opt_only,     '\0', "--tag",      "TAG",        "only domains that have the tag, with commas one of several; repeated: each", &command_line::only_tags},
  option_row{opt_only,     '\0', "--exclude-tag", "TAG",     "leave out domains that have the tag; several with commas",    &command_line::exclude_tags},
  option_row{opt_only,     '\0', "--feature",  "F=V",        "only domains with that feature, 'F=': also without; may be repeated", &command_line::features},
  option_row{opt_only,     '\0', "--set",      "P=V",        "only domains with that value of a property; may be repeated", &command_line::settings},
  option_row{opt_rename,   '\0', "--rename",   "OLD=NEW",    "give a restored domain another name; may be repeated",       &command_line::renames},
  option_row{opt_stand_in, '\0', "--template", "TEMPLATE",   "for domains whose own template is neither here nor restored", &command_line::based_on},
  option_row{opt_passphrase, '\0', "--passphrase-file", "FILE", "its first line is the passphrase; '-' is standard input",   &command_line::passphrase_file},
  option_row{opt_backup,   '\0', "--to",       "PATH",       "a new profile: the file or folder that the backup goes to",   &command_line::backup_to},
  option_row{opt_backup,   '\0', "--in",       "DOMAIN",     "the domain that PATH is in (default: dom0)",                  &command_line::backup_in},
  option_row{opt_backup,   '\0', "--compression", "PROGRAM", "gzip, bzip2, xz, zstd ... or none (default: gzip)",           &command_line::backup_compression},
  option_row{opt_backup,   '\0', "--passphrase-in", "DOMAIN", "ask the service qubes.BackupPassphrase of that domain",      &command_line::passphrase_vm},
  option_row{opt_backup,   '\0', "--save",     "PROFILE",    "keep the new profile under this name",                        &command_line::save_as},
  option_row{opt_profiles, '\0', "--profiles", "FOLDER",     "where profiles are (default: $QVMCTL_PROFILES, else /etc/qubes/backup)", &command_line::profiles},
  option_row{opt_sort,     '\0', "--sort",     "COLUMN",     "in the order of a column",                                    &command_line::sort},
  option_row{opt_reverse,  '\0', "--reverse",  "",           "the other way round",                                         &command_line::reverse},
  option_row{opt_columns,  'o',  "--columns",  "LIST",       "columns to show, separated by commas; 'all' for all but disks", &command_line::columns},
  option_row{opt_format,   'f',  "--format",   "FORMAT",     "table, csv or json (default: table)",                         &command_line::format},
  option_row{opt_picture,  'f',  "--format",   "FORMAT",     "text, dot, svg or json (default: text)",                      &command_line::picture},
  option_row{opt_count,    'n',  "--count",    "COUNT",      "end after so many samples",                                   &command_line::count},
  option_row{opt_watch,    '\0', "--watch",    "",           "follow what happens until an interrupt",                      &command_line::watch},
  option_row{opt_socket,   '\0', "--socket",   "PATH",       "socket of the daemon (default: $QVMCTL_SOCKET, else /var/run/qubesd.sock)", &command_line::socket},
  option_row{opt_via,      '\0', "--via",      "ROUTE",      "socket or qrexec (default: qrexec where there is no socket)", &command_line::via},
  option_row{opt_help,     'h',  "--help",     "",           "explain the command",                                         &command_line::help},
  option_row{opt_version,  '\0', "--version",  "",           "print the version",                                           &command_line::version},
  option_row{opt_markdown, '\0', "--markdown", "",           "",                                                            &command_line::markdown},
  option_row{opt_man,      '\0', "--man",      "",           "",                                                            &command_line::man},
};
// clang-format on

} // namespace

bool value_needed(const option_row& x) {
  return !x.value.empty() && x.value.front() != '[';
}

bool may_be_repeated(const option_row& x) {
  return x.value.empty() || std::holds_alternative<texts command_line::*>(x.into)
         || std::holds_alternative<std::vector<std::string> command_line::*>(x.into);
}

std::string synopsis(const command& x) {
  return fmt::format("qvmctl {}{}{}", x.name, x.arguments.empty() ? "" : " ", x.arguments);
}

std::vector<std::string> first_words(std::span<const command> table) {
  auto result = std::vector<std::string>{};
  for (auto& x : table) {
    auto first = std::string{x.name.substr(0, x.name.find(' '))};
    if (result.empty() || result.back() != first)
      result.push_back(std::move(first));
  }
  return result;
}

std::vector<std::string> second_words(std::string_view group, std::span<const command> table) {
  auto result = std::vector<std::string>{};
  for (auto& x : table)
    if (x.name.starts_with(group) && x.name.size() > group.size() && x.name[group.size()] == ' ')
      result.emplace_back(x.name.substr(group.size() + 1));
  return result;
}

const command* find_command(std::string_view name, std::span<const command> table) {
  auto found = std::find_if(table.begin(), table.end(), [&](auto& x) { return x.name == name; });
  return found == table.end() ? nullptr : &*found;
}

namespace {

tl::unexpected<failure> usage(std::string text, std::string hint = {}) {
  return tl::unexpected{failure{trouble::usage, "", std::move(text), std::move(hint)}};
}

/// An option as written, before the command is known.
struct given_option {
  std::string name;
  std::optional<std::string> value;
};

struct split_line {
  std::vector<std::string> words;
  std::vector<given_option> given;
  std::string awaits;      ///< the last option, when its value is missing
  bool words_only = false; ///< what would follow is no option, whatever it begins with
};

const option_row* find_option(std::string_view name) {
  for (auto& x : option_table)
    if (name == x.name || (name.size() == 2 && name[0] == '-' && x.letter && name[1] == x.letter))
      return &x;
  return nullptr;
}

/// Whether these words are a command that runs a program, and where. The next word is the program,
/// and all that follows is the program's.
bool program_follows(const std::vector<std::string>& words, std::span<const command> table) {
  if (words.empty())
    return false;
  auto name = fmt::format("{}", fmt::join(words.begin(), words.end() - 1, " "));
  return std::any_of(table.begin(), table.end(), [&](auto& x) {
    return x.name == name && x.arguments.ends_with(" COMMAND...");
  });
}

/// Options of one name take a value or do not, whatever the command; so words and options can be
/// told apart first.
split_line split(std::span<const std::string> argv, std::span<const command> table) {
  auto result = split_line{};
  for (auto i = std::size_t{0}; i < argv.size(); ++i) {
    const auto& text = argv[i];
    auto is_word = text == "-" || !text.starts_with('-');
    if (is_word && program_follows(result.words, table)) {
      result.words.insert(result.words.end(), argv.begin() + static_cast<std::ptrdiff_t>(i),
                          argv.end());
      result.words_only = true;
      break;
    }
    if (text == "--") {
      result.words.insert(result.words.end(), argv.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                          argv.end());
      result.words_only = true;
      break;
    }
    if (text.size() < 2 || text.front() != '-') {
      result.words.push_back(text);
      continue;
    }
    auto next = given_option{text, std::nullopt};
    if (auto is = text.find('='); is != std::string::npos && text.starts_with("--")) {
      next = {text.substr(0, is), text.substr(is + 1)};
    } else if (text[1] != '-' && text.size() > 2 && find_option(text.substr(0, 2))) {
      next = {text.substr(0, 2), text.substr(2)};
    } else if (auto row = find_option(text); row && value_needed(*row)) {
      if (++i == argv.size()) {
        result.awaits = text;
        break;
      }
      next.value = argv[i];
    }
    result.given.push_back(std::move(next));
  }
  return result;
}

std::vector<std::string> names_of_options(std::uint64_t set) {
  auto result = std::vector<std::string>{};
  for (auto& x : option_table)
    if ((set & x.id) && !x.help.empty())
      result.emplace_back(x.name);
  return result;
}

expected<void> take(const option_row& row, const given_option& x, command_line& line) {
  if (row.value.empty() && x.value)
    return usage(fmt::format("{} takes no value, but got '{}'", row.name, *x.value));
  struct visitor {
    const option_row& row;
    const std::optional<std::string>& text;
    command_line& line;

    expected<void> operator()(bool command_line::*to) const {
      line.*to = true;
      return {};
    }

    expected<void> operator()(std::string command_line::*to) const {
      line.*to = *text;
      return {};
    }

    expected<void> operator()(std::optional<std::string> command_line::*to) const {
      line.*to = *text;
      return {};
    }

    expected<void> operator()(std::vector<std::string> command_line::*to) const {
      if (text->find_first_not_of(',') == std::string::npos)
        return usage(fmt::format("{} needs {}, not '{}'", row.name, row.value, *text),
                     std::string{row.help});
      for (auto item : model::words_of(*text, ","))
        (line.*to).emplace_back(item);
      return {};
    }

    expected<void> operator()(texts command_line::*to) const {
      (line.*to).all.push_back(*text);
      return {};
    }

    expected<void> operator()(std::optional<double> command_line::*to) const {
      return parse_seconds(row.name, *text).map([&](double x) { line.*to = x; });
    }

    expected<void> operator()(patience command_line::*to) const {
      (line.*to).asked = true;
      if (!text)
        return {};
      return parse_seconds(row.name, *text).map([&](double x) { (line.*to).seconds = x; });
    }
  };
  return std::visit(visitor{row, x.value, line}, row.into);
}

/// How many words "DOMAIN PROPERTY [VALUE]" asks for.
struct arity {
  std::size_t least = 0;
  std::size_t most = 0;
};

arity count(std::string_view arguments) {
  auto result = arity{};
  for (auto word : model::split(arguments, ' ')) {
    result.least += word.front() != '[';
    result.most = word.find("...") != std::string_view::npos ? std::string::npos : result.most + 1;
  }
  return result;
}

expected<void> check_words(const command& x, command_line& line) {
  if (line.host)
    line.words.insert(line.words.begin(), "@host");
  if (x.arguments == "DOMAIN..." || x.arguments == "[DOMAIN...]") {
    auto names = std::vector<std::string>{};
    for (auto& word : line.words)
      std::ranges::move(parts_of(word), std::back_inserter(names));
    line.words = std::move(names);
  }
  auto [least, most] = count(x.arguments);
  if (line.all && !line.words.empty())
    return usage("--all and names of domains exclude each other",
                 "use --all --exclude NAME, or name them");
  if (line.all)
    least = 0;
  if (line.words.size() < least)
    return usage(fmt::format("'{}' needs {}", x.name, x.arguments), "usage: " + synopsis(x));
  if (line.words.size() > most)
    return usage(fmt::format("'{}' does not know what to do with '{}'", x.name, line.words[most]),
                 "usage: " + synopsis(x));
  if (!line.exclude.empty() && !line.all && (x.options & opt_all))
    return usage("--exclude goes with --all");
  return {};
}

/// Takes the command's name off the front of the words; null when "feature --help" names a group.
expected<const command*> take_command(std::vector<std::string>& words, bool help,
                                      std::span<const command> table) {
  const auto first = words.front();
  if (auto found = find_command(first, table)) {
    words.erase(words.begin());
    return found;
  }
  auto seconds = second_words(first, table);
  if (seconds.empty())
    return usage(fmt::format("no command '{}'", first), [&] {
      auto hint = did_you_mean(first, first_words(table));
      return hint.empty() ? std::string{"'qvmctl help' lists them"} : hint;
    }());
  if (words.size() == 1) {
    if (help)
      return nullptr;
    return usage(fmt::format("'{}' needs one of: {}", first, fmt::join(seconds, ", ")));
  }
  if (auto found = find_command(first + " " + words[1], table)) {
    words.erase(words.begin(), words.begin() + 2);
    return found;
  }
  auto hint = did_you_mean(words[1], seconds);
  return usage(fmt::format("no command '{} {}'", first, words[1]),
               hint.empty() ? fmt::format("one of: {}", fmt::join(seconds, ", ")) : hint);
}

/// Null when a command that has these options does not have it.
const option_row* find_allowed(std::string_view name, std::uint64_t allowed) {
  auto found = std::find_if(option_table.begin(), option_table.end(), [&](auto& x) {
    return (x.id & allowed) && (name == x.name || (x.letter && name == std::string{'-', x.letter}));
  });
  return found == option_table.end() ? nullptr : &*found;
}

expected<void> take_options(const std::vector<given_option>& given, std::uint64_t allowed,
                            std::string_view who, command_line& line) {
  for (auto& x : given) {
    auto row = find_allowed(x.name, allowed);
    if (!row) {
      auto hint = did_you_mean(x.name, names_of_options(allowed));
      if (hint.empty())
        hint = "put -- before a word that starts with a dash";
      return usage(who.empty() ? fmt::format("no option '{}'", x.name)
                               : fmt::format("'{}' has no option '{}'", who, x.name),
                   hint);
    }
    auto again = std::any_of(given.data(), &x,
                             [&](auto& y) { return find_allowed(y.name, allowed) == row; });
    if (again && !may_be_repeated(*row))
      return usage(fmt::format("{} is given twice", row->name), "once is enough");
    if (auto taken = take(*row, x, line); !taken)
      return taken;
  }
  return {};
}

} // namespace

std::span<const option_row> options() noexcept {
  return option_table;
}

expected<double> parse_seconds(std::string_view whose, std::string_view text) {
  auto result = 0.0;
  auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), result);
  if (text.empty() || bad != std::errc{} || end != text.data() + text.size()
      || !std::isfinite(result) || result < 0 || result > 1e8)
    return usage(fmt::format("{} takes seconds, not '{}'", whose, text), "for example 30 or 2.5");
  return result;
}

expected<parsed_line> parse(std::span<const std::string> argv, std::span<const command> table) {
  auto parts = split(argv, table);
  if (!parts.awaits.empty()) {
    auto row = find_option(parts.awaits);
    return usage(fmt::format("{} needs {}", parts.awaits, row->value), std::string{row->help});
  }
  auto result = parsed_line{};
  auto wants_help = std::any_of(parts.given.begin(), parts.given.end(),
                                [](auto& x) { return x.name == "--help" || x.name == "-h"; });
  auto allowed = everywhere;
  auto who = std::string_view{};
  if (!parts.words.empty()) {
    auto found = take_command(parts.words, wants_help, table);
    if (!found)
      return tl::unexpected{found.error()};
    result.what = *found;
    if (result.what) {
      allowed |= result.what->options;
      who = result.what->name;
    }
  }
  result.line.words = std::move(parts.words);
  if (auto taken = take_options(parts.given, allowed, who, result.line); !taken)
    return tl::unexpected{taken.error()};
  if (!result.what || result.line.help || result.line.version)
    return result;
  if (auto fits = check_words(*result.what, result.line); !fits)
    return tl::unexpected{fits.error()};
  return result;
}

half_line halfway(std::span<const std::string> typed, std::span<const command> table) {
  auto parts = split(typed, table);
  auto result = half_line{.words = std::move(parts.words), .words_only = parts.words_only};
  if (!result.words.empty())
    if (auto found = take_command(result.words, true, table); found)
      result.what = *found;
  result.allowed = everywhere | (result.what ? result.what->options : 0);
  if (!parts.awaits.empty())
    result.awaits = find_allowed(parts.awaits, result.allowed);
  for (auto& x : parts.given)
    if (auto row = find_allowed(x.name, result.allowed))
      result.given.emplace_back(row, x.value.value_or(""));
  return result;
}

} // namespace qubes::ctl
