#include "bin/qvmctl/completion.hpp"

#include "bin/qvmctl/groups.hpp"
#include "model/base/split.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>

namespace qubes::ctl {

namespace {

constexpr auto usual_patience = std::chrono::milliseconds{1000};

/// How long a key may wait for the daemon.
expected<milliseconds> patience_wanted() {
  constexpr auto name = "QVMCTL_COMPLETION_SECONDS";
  auto* text = std::getenv(name);
  if (!text || !*text)
    return usual_patience;
  return parse_seconds(name, text).map(to_milliseconds);
}

/// "DOMAIN" of "[DOMAIN...]": what the next word is, and whether it may be repeated.
struct wanted_word {
  std::string_view what;
  bool repeats = false;
};

std::string_view bare(std::string_view word) {
  word.remove_prefix(std::min(word.find_first_not_of("[="), word.size()));
  constexpr auto of_names = std::string_view{"ABCDEFGHIJKLMNOPQRSTUVWXYZ:=|_"};
  return word.substr(0, word.find_first_not_of(of_names));
}

wanted_word next_word(std::string_view arguments, std::size_t taken) {
  for (auto i = std::size_t{0}; !arguments.empty(); ++i) {
    auto word = model::take_until(arguments, ' ');
    auto repeats = word.find("...") != std::string_view::npos;
    if (i == taken || repeats)
      return {bare(word), repeats};
  }
  return {};
}

/// The candidates with what stands before them in the word.
candidates after(std::string_view head, candidates all) {
  for (auto& x : all)
    x.word.insert(0, head);
  return all;
}

/// Of "PROFILE|DOMAIN" those of both; behind a comma the next of a list.
candidates all_candidates(std::string_view wanted, std::string_view option, const place& at) {
  if (auto comma = at.typed.rfind(','); comma != at.typed.npos && wanted.find('=') == wanted.npos)
    return after(at.typed.substr(0, comma + 1),
                 all_candidates(wanted, option, at.further(comma + 1)));
  auto result = candidates{};
  for (auto one : model::split(wanted, '|'))
    std::ranges::move(candidates_for(one, option, at), std::back_inserter(result));
  return result;
}

candidates option_names(const half_line& line) {
  auto result = candidates{};
  for (auto& x : options()) {
    auto given = std::ranges::any_of(line.given, [&](auto& y) {
      return y.first == &x && (x.value.empty() || !may_be_repeated(x));
    });
    if ((x.id & line.allowed) && !x.help.empty() && !given)
      result.push_back({std::string{x.name}, std::string{x.help}});
  }
  return result;
}

candidates command_names(const half_line& line) {
  auto result = candidates{};
  if (line.words.empty())
    for (auto& x : first_words(commands())) {
      auto* row = find_command(x, commands());
      result.push_back({x, row ? std::string{row->help}
                               : fmt::format("{}", fmt::join(second_words(x, commands()), ", "))});
    }
  else if (line.words.size() == 1)
    for (auto& x : second_words(line.words[0], commands()))
      result.push_back({x, std::string{find_command(line.words[0] + " " + x, commands())->help}});
  return result;
}

candidates option_values(const option_row& row, const place& at) {
  return all_candidates(bare(row.value), row.name, at);
}

candidates words_here(const place& at, bool host_too) {
  const auto& line = at.line;
  if (line.awaits)
    return option_values(*line.awaits, at);
  if (auto is = at.typed.find('=');
      !line.words_only && at.typed.starts_with("--") && is != at.typed.npos) {
    auto name = at.typed.substr(0, is);
    auto row = std::ranges::find_if(
        options(), [&](auto& x) { return x.name == name && (x.id & line.allowed); });
    if (row == options().end())
      return {};
    return after(at.typed.substr(0, is + 1), option_values(*row, at.further(is + 1)));
  }
  if (!line.words_only && at.typed.starts_with('-'))
    return option_names(line);
  if (!line.what)
    return command_names(line);
  auto [wanted, repeats] = next_word(line.what->arguments, line.words.size());
  auto result = all_candidates(wanted, "", at);
  if (host_too && wanted == "DOMAIN" && line.words.empty())
    result.push_back({"@host", "the host"});
  if (repeats)
    std::erase_if(
        result, [&](auto& x) { return std::ranges::find(line.words, x.word) != line.words.end(); });
  return result;
}

/// No shell may take it for anything but a word: names of devices come from domains.
bool is_harmless(std::string_view word) {
  return std::ranges::all_of(word, [](unsigned char x) {
    return std::isalnum(x)
           || std::string_view{"@%_-+=:,./"}.find(static_cast<char>(x)) != std::string_view::npos;
  });
}

} // namespace

std::vector<std::string> place::ask(const std::vector<request>& all) const {
  auto answers = std::vector<std::string>(all.size());
  auto missing = all.size();
  auto here = listener{};
  for (auto i = std::size_t{0}; i < all.size(); ++i)
    daemon.send(here, all[i], patience, [&, i](auto answer) {
      answers[i] = answer.value_or("");
      --missing;
    });
  daemon.run([&] { return missing == 0; });
  return answers;
}

exit_code run_complete(session& s) {
  auto patience = patience_wanted();
  if (!patience)
    return report(s, patience.error());
  auto typed = s.line.words;
  auto current = typed.empty() ? std::string{} : typed.back();
  if (!typed.empty())
    typed.pop_back();
  auto line = halfway(typed, commands());
  auto given = s.line;
  for (auto& [row, value] : line.given) {
    if (row->id == opt_socket)
      given.socket = value;
    if (row->id == opt_via)
      given.via = value;
    if (row->id == opt_host)
      line.words.insert(line.words.begin(), "@host");
  }
  auto daemon = client{choose_route(given)};
  auto host_too = line.what && (line.what->options & opt_host) != 0;
  auto text = std::string{};
  auto seen = std::set<std::string>{};
  for (auto& x : words_here({daemon, line, current, *patience}, host_too))
    if ((x.word.empty() || x.word.starts_with(current)) && is_harmless(x.word)
        && seen.insert(x.word).second)
      text += fmt::format("{}\t{}\n", x.word, printable(x.about));
  return print(s, text);
}

} // namespace qubes::ctl
