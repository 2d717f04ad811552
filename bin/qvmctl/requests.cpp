#include "bin/qvmctl/requests.hpp"

#include "bin/qvmctl/input.hpp"
#include "bin/qvmctl/report.hpp"
#include "drivers/io/json.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace qubes::ctl {

expected<nlohmann::json> ask_json(session& s, std::string method, std::string domain) {
  auto answer = s.daemon.ask({.method = method, .destination = std::move(domain)});
  if (!answer && answer.error().klass == "ProtocolError" && answer.error().hint.empty())
    answer.error().hint = "only qvmd has this; another daemon serves this socket";
  if (!answer)
    return tl::unexpected{answer.error()};
  auto result = drivers::parse_json(*answer);
  if (result.is_discarded())
    return tl::unexpected{failure{trouble::broken, "",
                                  fmt::format("the answer to {} is not JSON", method),
                                  "the daemon and qvmctl may be of different versions"}};
  return result;
}

namespace {

/// Where near names are looked up when the daemon knows no such thing.
struct known_row {
  std::string_view klass;
  std::string_view list;      ///< method that lists the names
  std::string_view host_list; ///< the same for "@host"
  std::string_view command;   ///< shows them to a person
  bool of_a_domain = true;    ///< else the host's, which dom0 is asked for
};

constexpr std::array known_table{
    known_row{"QubesNoSuchPropertyError", "admin.vm.property.List", "admin.property.List", "get"},
    known_row{"QubesFeatureNotFoundError", "admin.vm.feature.List", "", "feature ls"},
    known_row{"QubesTagNotFoundError", "admin.vm.tag.List", "", "tag ls"},
    known_row{"QubesLabelNotFoundError", "admin.label.List", "", "label ls", false},
};

} // namespace

bool is_host(std::string_view domain) {
  return domain == "@host";
}

failure explain(session& s, failure why, const std::string& domain, const std::string& word) {
  if (!why.hint.empty() || why.text.find("did you mean") != std::string::npos)
    return why;
  if (why.klass == "ProtocolError" && why.text.ends_with("does not go to dom0"))
    return {why.kind, why.klass,
            fmt::format("'{}' is not about dom0, which is this host", s.command),
            "name another domain"};
  if (why.klass == "QubesVMNotFoundError") {
    auto all = domain_list::fetch(s.daemon);
    if (!all || all->find(domain))
      return why;
    auto names = std::vector<std::string>{};
    for (auto& x : all->all())
      names.push_back(x.name);
    return no_such_domain(domain, names);
  }
  for (auto& x : known_table) {
    if (x.klass != why.klass || (!x.of_a_domain && domain != "dom0"))
      continue;
    auto list = s.daemon.ask({.method = std::string{is_host(domain) ? x.host_list : x.list},
                              .destination = is_host(domain) ? "dom0" : domain});
    if (!list)
      return why;
    auto known = lines_of(*list);
    auto is_known = std::find(known.begin(), known.end(), word) != known.end();
    if (is_known)
      return why;
    why.hint = did_you_mean(word, known);
    if (why.hint.empty())
      why.hint = fmt::format("'qvmctl {}{}' lists what there is", x.command,
                             x.of_a_domain ? " " + domain : "");
  }
  return why;
}

expected<std::string> domain_word(session& s, bool host_too) {
  const auto& word = s.line.words.front();
  if (host_too && is_host(word))
    return word;
  return domain_named(s, word);
}

expected<std::string> domain_named(const session& s, const std::string& name) {
  if (is_glob(name) || name.find(',') != std::string::npos)
    return usage_failure(
        fmt::format("'{}' means several domains, and '{}' takes one", name, s.command), "name one");
  return check_name(name).map([&] { return name; });
}

tl::unexpected<failure> bad_word(const model::error& why) {
  return tl::unexpected{failure{trouble::usage, "", why.text, why.hint}};
}

// -- several at once ----------------------------------------------------------------------------

tl::unexpected<failure> usage_failure(std::string text, std::string hint) {
  return tl::unexpected{failure{trouble::usage, "", std::move(text), std::move(hint)}};
}

expected<std::vector<std::string>> domain_words(session& s, bool host_too) {
  const auto& word = s.line.words.front();
  if (host_too && is_host(word))
    return std::vector{word};
  return domains_named(s, word);
}

expected<std::vector<std::string>> domains_named(session& s, const std::string& word) {
  if (!is_glob(word) && word.find(',') == std::string::npos)
    return check_name(word).map([&] { return std::vector{word}; });
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return tl::unexpected{all.error()};
  auto chosen = all->choose(parts_of(word));
  if (!chosen)
    return tl::unexpected{chosen.error()};
  auto result = std::vector<std::string>{};
  for (auto x : *chosen)
    result.push_back(x->name);
  return result;
}

std::vector<expected<std::string>> ask_all(session& s, const std::vector<request>& all) {
  return ask_all(s.daemon, all);
}

std::vector<expected<std::string>> ask_all(client& daemon, const std::vector<request>& all) {
  auto answers = std::vector<expected<std::string>>(all.size());
  auto missing = all.size();
  auto here = listener{};
  for (auto i = std::size_t{0}; i < all.size(); ++i)
    daemon.send(here, all[i], std::nullopt, [&, i](auto answer) {
      answers[i] = std::move(answer);
      --missing;
    });
  daemon.run([&] { return missing == 0; });
  return answers;
}

expected<entry> entry_of(session& s, const std::string& domain) {
  auto list = s.daemon.ask({"admin.vm.List", "", domain, ""});
  auto now =
      list ? domain_list::parse_list(*list) : tl::unexpected{explain(s, list.error(), domain, "")};
  if (!now)
    return tl::unexpected{std::move(now.error())};
  return now->all().empty() ? entry{} : now->all().front();
}

request plan_of(const request& what) {
  return {"qvmd.Plan", what.method + "+" + what.argument, what.destination, what.payload};
}

expected<void> would_be_taken(session& s, const request& what) {
  auto plan = s.daemon.ask(plan_of(what));
  if (plan || plan.error().kind == trouble::broken)
    return {};
  for (auto there_is_none : {"qvmd.Plan", "has no plan"})
    if (plan.error().message().find(there_is_none) != std::string::npos)
      return {};
  return tl::unexpected{std::move(plan.error())};
}

std::vector<std::optional<failure>> shortfalls_of(session& s,
                                                  const std::vector<std::string>& some) {
  auto asked = std::vector<request>{};
  for (auto& x : some)
    asked.push_back({"qvmd.Why", "", x, ""});
  auto result = std::vector<std::optional<failure>>{};
  for (auto& answer : ask_all(s, asked)) {
    auto told = answer ? drivers::parse_json(*answer) : nlohmann::json{};
    const auto& wanting = part(part(told, "start"), "shortfall");
    result.push_back(wanting.is_object() ? std::optional{failure{
                         trouble::refused, "", text(wanting, "text"), text(wanting, "remedy")}}
                                         : std::nullopt);
  }
  return result;
}

exit_code change_everywhere(session& s, const std::vector<change>& each) {
  auto domains = domain_words(s);
  if (!domains)
    return report(s, domains.error());
  auto changes = std::vector<change>{};
  for (auto& domain : *domains)
    for (auto x : each) {
      x.what.destination = domain;
      changes.push_back(std::move(x));
    }
  return make_changes(s, changes);
}

namespace {

/// Says of what among several.
std::string nothing_changes(const change& x, const std::vector<change>& all) {
  auto differs = [&](auto of) {
    return std::ranges::any_of(all, [&](auto& y) { return of(y) != of(x); });
  };
  auto result = std::string{};
  if (differs([](auto& y) { return y.what.method + " " + y.what.destination; }))
    result += (x.what.method.starts_with("admin.property.") ? "host" : x.what.destination) + ": ";
  if (differs([](auto& y) { return y.word; }))
    result += x.word + ": ";
  return printable(result) + "nothing would change\n";
}

} // namespace

exit_code make_changes(session& s, const std::vector<change>& changes) {
  auto asked = std::vector<request>{};
  for (auto& x : changes) {
    auto what = x.what;
    if (s.line.dry_run && !x.would.empty())
      what = {.method = "admin.vmclass.List"}; // says whether there is a daemon, no more
    else if (s.line.dry_run)
      what = plan_of(x.what);
    asked.push_back(std::move(what));
  }
  auto answers = ask_all(s, asked);
  auto several = std::any_of(changes.begin(), changes.end(), [&](auto& x) {
    return x.what.destination != changes.front().what.destination;
  });
  auto code = exit_code::done;
  auto good = std::size_t{0};
  for (auto i = std::size_t{0}; i < changes.size(); ++i) {
    const auto& x = changes[i];
    if (!answers[i]) {
      auto of_host = x.what.method.starts_with("admin.property.");
      auto why =
          explain(s, std::move(answers[i].error()), of_host ? "@host" : x.what.destination, x.word);
      if (several)
        why.text = fmt::format("'{}': {}", x.what.destination, why.text);
      code = report(s, why);
      continue;
    }
    ++good;
    if (!s.line.dry_run)
      continue;
    auto text = std::string{};
    for (auto& line : lines_of(x.would.empty() ? *answers[i] : x.would))
      text += printable(line) + "\n";
    if (text.empty())
      text = nothing_changes(x, changes);
    if (!x.head.empty())
      text.insert(0, printable(x.head) + "\n");
    if (print(s, text) != exit_code::done)
      return exit_code::refused;
  }
  return good > 0 && good < changes.size() ? exit_code::partly : code;
}

nlohmann::json fact_cell(const session& s, std::string_view key, const std::string& value) {
  struct row {
    std::string_view key, type;
  };
  constexpr auto types = std::array{row{"size", "int"},
                                    row{"usage", "int"},
                                    row{"revisions_to_keep", "int"},
                                    row{"rw", "bool"},
                                    row{"save_on_stop", "bool"},
                                    row{"snap_on_start", "bool"},
                                    row{"ephemeral", "bool"},
                                    row{"ephemeral_volatile", "bool"},
                                    row{"is_outdated", "bool"}};
  auto found = std::ranges::find(types, key, &row::key);
  if (s.as != format::json || found == types.end())
    return value;
  return typed({.type = std::string{found->type}, .text = value});
}

// -- words --------------------------------------------------------------------------------------

expected<void> confirm(const session& s, std::string_view question) {
  if (s.line.yes)
    return {};
  if (::isatty(STDIN_FILENO) != 1)
    return usage_failure(fmt::format("{}: nobody can be asked here", question),
                         "--yes says that it is meant");
  write_err(fmt::format("{}? [y/N] ", printable(question)));
  char answer[64];
  if (std::fgets(answer, sizeof answer, stdin)) {
    auto text = model::lower_case(model::trimmed(answer));
    if (text == "y" || text == "yes")
      return {};
  }
  return tl::unexpected{failure{trouble::refused, "", "nothing was done", "'y' would have"}};
}

expected<std::int64_t> parse_size(std::string_view text) {
  auto number = 0.0;
  auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), number);
  auto unit = model::lower_case(std::string_view{end, text.data() + text.size()});
  auto factor = 1.0;
  if (!unit.empty()) {
    constexpr auto letters = std::string_view{"kmgt"};
    auto at = letters.find(unit[0]);
    auto rest = unit.substr(1);
    if (at == std::string_view::npos || (rest != "" && rest != "b" && rest != "i" && rest != "ib"))
      bad = std::errc::invalid_argument;
    else
      factor = std::pow(rest.starts_with('i') ? 1024.0 : 1000.0, static_cast<double>(at + 1));
  }
  if (bad != std::errc{} || !std::isfinite(number) || number < 0 || number * factor > 9e15)
    return usage_failure(fmt::format("'{}' is no size", text),
                         "for example 400M, 10G or 10Gi (1024 to the third)");
  return static_cast<std::int64_t>(number * factor);
}

std::string size_text(std::int64_t bytes) {
  constexpr std::string_view units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto number = static_cast<double>(bytes);
  auto unit = std::size_t{0};
  while (number >= 1024 && unit + 1 < std::size(units)) {
    number /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", number, units[unit]);
}

expected<std::string> read_text(const std::string& path) {
  constexpr auto longest = std::size_t{1} << 20; // more than any daemon takes
  if (path == "-")
    announce_input("reading text");
  auto file = path == "-" ? stdin : std::fopen(path.c_str(), "r");
  if (!file)
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("cannot open '{}': {}", path, std::strerror(errno)),
                                  "'-' reads standard input"}};
  auto result = std::string{};
  char buffer[4096];
  while (auto got = std::fread(buffer, 1, sizeof buffer, file)) {
    result.append(buffer, got);
    if (got < sizeof buffer || result.size() > longest) // a terminal would be read on after its end
      break;
  }
  auto broken = std::ferror(file) != 0;
  if (file != stdin)
    std::fclose(file);
  if (broken)
    return tl::unexpected{failure{
        trouble::refused, "", fmt::format("cannot read '{}': {}", path, std::strerror(errno)), ""}};
  if (result.size() > longest)
    return usage_failure(fmt::format("'{}' is too long", path),
                         fmt::format("at most {} bytes", longest));
  return result;
}

std::string raw(const session& s, const std::string& text) {
  return s.out.terminal ? printable(text) : text;
}

} // namespace qubes::ctl
