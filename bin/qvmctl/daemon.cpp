#include "bin/qvmctl/clock.hpp"
#include "bin/qvmctl/diff.hpp"
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/help.hpp"
#include "bin/qvmctl/report.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/power.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace qubes::ctl {

namespace {

using nlohmann::json;

std::string event_json(const event& x) {
  auto args = json::object();
  for (auto& [key, value] : x.args)
    args[key] = value;
  return fmt::format(R"({{"time": {}, "domain": {}, "event": {}, "args": {}}})",
                     dump(clock_text(true)), x.subject.empty() ? "null" : dump(x.subject),
                     dump(x.name), dump(args));
}

std::string event_line(const session& s, const event& x) {
  auto args = std::string{};
  for (auto& [key, value] : x.args)
    args += fmt::format("  {}{}", s.out.paint(key + "=", style::dim), printable(value));
  auto subject = x.subject.empty() ? std::string{"-"} : printable(x.subject);
  return fmt::format("{}  {}  {}{}", s.out.paint(clock_text(false), style::dim),
                     s.out.paint(fmt::format("{:<15}", subject), style::bold), printable(x.name),
                     args);
}

} // namespace

exit_code run_events(session& s) {
  auto domain = std::string{"dom0"};
  if (!s.line.words.empty()) {
    auto named = domain_word(s);
    if (!named)
      return report(s, named.error());
    domain = *named;
  }
  auto ended = std::optional<failure>{};
  auto full = std::optional<exit_code>{};
  auto here = listener{};
  s.daemon.subscribe(
      here, {.method = "admin.Events", .destination = domain},
      [&](const event& x) {
        auto line = s.line.json ? event_json(x) : event_line(s, x);
        if (auto code = print(s, line + "\n"); code != exit_code::done)
          full = code;
      },
      [&](failure why) { ended = std::move(why); });
  auto deadline = std::optional<time_point>{};
  if (s.line.seconds)
    deadline = std::chrono::steady_clock::now() + to_milliseconds(*s.line.seconds);
  s.daemon.run([&] { return ended || full; }, deadline);
  if (full)
    return *full;
  return ended ? report(s, explain(s, std::move(*ended), domain, "")) : exit_code::done;
}

namespace {

// -- the daemon itself ----------------------------------------------------------------------

std::string amount(const json& x, const char* key) {
  constexpr auto most = 1e18;
  return size_text(static_cast<std::int64_t>(std::clamp(number(x, key), 0.0, most)));
}

std::string connection_text(const session& s, const json& x) {
  auto connected = text(x, "connected") == "true";
  auto reason = text(x, "reason");
  auto by = text(x, "accelerator");
  return fmt::format("{}  {}{} {}{}",
                     connected ? s.out.paint("connected", style::good)
                               : s.out.paint("not connected", style::bad),
                     text(x, "type"), by.empty() ? "" : fmt::format(" by {}", by), text(x, "uri"),
                     reason.empty() ? "" : ": " + reason);
}

std::string store_health(const session& s, const json& store) {
  if (auto error = text(store, "error"); !error.empty())
    return s.out.paint(fmt::format("cannot write: {}", error), style::bad);
  if (auto older = text(store, "running_on"); !older.empty())
    return s.out.paint(fmt::format("runs on the generation {}", older), style::bad);
  return s.out.paint("fine", style::good);
}

std::string status_page(const session& s, const json& x) {
  auto page = report_page{s.out};
  page.fact("qvmd", fmt::format("{}, up {}, {} connections", text(x, "version"),
                                duration(number(x, "uptime_seconds")), text(x, "connections")));
  page.fact("hypervisor", connection_text(s, part(x, "hypervisor")));
  if (const auto& containers = part(x, "containers"); containers.is_object())
    page.fact("containers", connection_text(s, containers));
  const auto& store = part(x, "store");
  page.fact("store", fmt::format("{}  {}, {} of {}, generation {}", store_health(s, store),
                                 text(store, "path"), amount(store, "bytes"),
                                 amount(store, "most_bytes"), text(store, "generation")));
  auto states = std::vector<std::string>{};
  const auto& domains = part(x, "domains");
  for (auto& row : model::power_rows)
    if (auto count = text(domains, row.wire.data()); !count.empty() && count != "0")
      states.push_back(
          fmt::format("{} {}", count, s.out.paint(row.wire, style_of_state(row.wire))));
  auto packages = std::vector<std::string>{};
  if (const auto& all = part(x, "packages"); all.is_array())
    for (auto& it : all)
      packages.push_back(it.is_string() ? it.get<std::string>() : "");
  if (!packages.empty())
    page.fact("packages", fmt::format("{}", fmt::join(packages, ", ")));
  page.fact("domains", states.empty() ? "none" : fmt::format("{}", fmt::join(states, ", ")));
  page.list("degraded", part(x, "degraded"), style::bad,
            [](auto& y) { return fmt::format("{}: {}", text(y, "domain"), text(y, "reason")); });
  page.list("requests of domains", part(x, "callers"), style::plain, [](auto& y) {
    return fmt::format("{}: {} under way", text(y, "domain"), text(y, "requests"));
  });
  page.list("told too often", part(x, "held_back"), style::bad, [](auto& y) {
    return fmt::format("{}: {} changes of its devices were told together", text(y, "domain"),
                       text(y, "news"));
  });
  page.list("added to qubes.xml by domains", part(store, "callers"), style::plain,
            [](auto& y) { return fmt::format("{}: {}", text(y, "domain"), amount(y, "bytes")); });
  page.list("begun again", part(x, "restarts"), style::bad, [](auto& y) {
    return fmt::format("{}: {} times, last {} ago: {}", text(y, "part"), text(y, "count"),
                       duration(number(y, "last_seconds_ago")), text(y, "reason"));
  });
  page.list("failed volumes", part(x, "failed_volumes"), style::bad,
            [](auto& y) { return fmt::format("{}: {}", text(y, "volume"), text(y, "reason")); });
  page.list("under way", part(x, "operations"), style::busy, [](auto& y) {
    return fmt::format("{}: {}, {} for {}", text(y, "domain"), text(y, "doing"), text(y, "step"),
                       milliseconds_text(y, "for_ms"));
  });
  page.list("failed within the hour", part(x, "failures"), style::bad, [&](auto& y) {
    auto line = fmt::format("{} {}, {} ago: {}", text(y, "operation"), text(y, "domain"),
                            duration(number(y, "seconds_ago")), text(y, "cause"));
    return s.out.terminal ? shortened(line, s.out.columns - 2) : line;
  });
  page.list("set aside from qubes.xml", part(x, "quarantine"), style::bad, [](auto& y) {
    return fmt::format("{} {} (line {}): {}", text(y, "section"), text(y, "name"), text(y, "line"),
                       text(y, "reason"));
  });
  page.list("found in files", part(x, "findings"), style::busy, [](auto& y) {
    auto line = text(y, "line"); // 0: of no line, and the text names its file
    return line == "0" ? text(y, "text")
                       : fmt::format("{} (line {} when it was read): {}", text(y, "file"), line,
                                     text(y, "text"));
  });
  page.list("found in qrexec's policy", part(part(x, "policy"), "findings"), style::bad,
            [](auto& y) { return fmt::format("{}: {}", text(y, "where"), text(y, "text")); });
  page.list("files of domains", part(x, "files"), style::bad, [](auto& y) {
    return fmt::format("{}: {}: {}", text(y, "domain"), text(y, "file"), text(y, "text"));
  });
  return page.str();
}

} // namespace

exit_code run_status(session& s) {
  auto answer = ask_json(s, "qvmd.Status");
  if (!answer)
    return report(s, answer.error());
  if (s.as == format::json)
    return print(s, dump(*answer, 2) + "\n");
  if (s.as == format::table)
    return print(s, status_page(s, *answer));
  return print(s, flat_table(*answer).render(s.as, s.out));
}

namespace {

/// Refuses a word that no method has in its name; of a near one the last part may be meant.
expected<void> check_methods(const json& methods, const std::vector<std::string>& words) {
  auto names = std::vector<std::string>{};
  for (auto& x : methods)
    names.push_back(text(x, "name"));
  auto known = names;
  for (auto& x : names)
    known.push_back(x.substr(x.rfind('.') + 1));
  for (auto& word : words)
    if (std::ranges::none_of(names, [&](auto& x) { return x.find(word) != std::string::npos; })) {
      auto hint = did_you_mean(word, known);
      return tl::unexpected{failure{trouble::refused, "",
                                    fmt::format("no method has '{}' in its name", word),
                                    hint.empty() ? "'qvmctl api' lists them" : hint}};
    }
  return {};
}

/// The reference of the Admin API: a table for each family of methods.
std::string api_page(const json& methods) {
  auto page = std::string{
      "# The Admin API\n\n"
      "The methods that qvmd serves. A request is `METHOD[+ARGUMENT] SOURCE name DESTINATION NUL\n"
      "PAYLOAD`, then the client closes its side; the reply is `0 NUL TEXT`, or `2 NUL CLASS NUL "
      "NUL\n"
      "SENTENCE NUL` for a refusal. Streams send `1 NUL SUBJECT NUL EVENT NUL (KEY NUL VALUE NUL)* "
      "NUL`\nand go on. Methods whose names begin with `qvmd.` are qvmd's own.\n\n"
      "*argument* and *payload* say what a request must have (required), may have (optional) or "
      "must\n"
      "not have (none); *to* says which destination a method takes.\n\n"
      "This page is made by `qvmctl api --markdown`.\n"};
  auto families = std::vector<std::pair<std::string, std::string>>{};
  for (auto& x : methods) {
    auto name = text(x, "name");
    auto family = name.substr(0, name.rfind('.'));
    auto socket = text(x, "socket");
    auto key = fmt::format("{} {}", family, socket);
    auto place = std::ranges::find(families, key, [](auto& y) { return y.first; });
    if (place == families.end()) {
      auto again =
          std::ranges::any_of(families, [&](auto& y) { return y.first.starts_with(family + ' '); });
      place = families.insert(
          place, {key, fmt::format("\n## {}{}\n\nSocket: `{}`\n\n| method | argument | payload | "
                                   "to | what it does |\n|---|---|---|---|---|\n",
                                   family, again ? " at " + socket : "", socket)});
    }
    place->second += fmt::format("| `{}` | {} | {} | {} | {} |\n", name, text(x, "argument"),
                                 text(x, "payload"), text(x, "destination"), text(x, "help"));
  }
  for (auto& [family, rows] : families)
    page += rows;
  return page;
}

} // namespace

exit_code run_api(session& s) {
  auto answer = ask_json(s, "qvmd.Methods");
  if (!answer)
    return report(s, answer.error());
  if (s.line.markdown)
    return print(s, api_page(*answer));
  if (auto known = check_methods(*answer, s.line.words); !known)
    return report(s, known.error());
  auto result =
      output_table{{{"name"}, {"argument"}, {"payload"}, {"destination"}, {"socket"}, {"help"}}};
  auto wanted = [&](const std::string& name) {
    return s.line.words.empty()
           || std::any_of(s.line.words.begin(), s.line.words.end(),
                          [&](auto& x) { return name.find(x) != std::string::npos; });
  };
  if (answer->is_array())
    for (auto& x : *answer)
      if (auto name = text(x, "name"); wanted(name))
        result.add({{name, style::bold},
                    {text(x, "argument")},
                    {text(x, "payload")},
                    {text(x, "destination")},
                    {text(x, "socket"), style::dim},
                    {text(x, "help")}});
  return print(s, result.render(s.as, s.out));
}

exit_code run_call(session& s) {
  const auto& words = s.line.words;
  auto plus = words[0].find('+');
  auto what = request{.method = words[0].substr(0, plus)};
  if (plus != std::string::npos)
    what.argument = words[0].substr(plus + 1);
  if (words[0].find_first_of(" \n") != std::string::npos || what.method.empty())
    return report(s, {trouble::usage, "", fmt::format("'{}' is no method", words[0]),
                      "'qvmctl api' lists them"});
  if (what.method == "admin.Events" || what.method == "admin.vm.Stats")
    return report(s, {trouble::usage, "", fmt::format("{} goes on without end", what.method),
                      what.method == "admin.Events"
                          ? "'qvmctl events' prints events as they happen"
                          : "'qvmctl top -f json' prints samples as they come"});
  if (words.size() > 1) {
    if (auto good = check_name(words[1]); !good)
      return report(s, good.error());
    what.destination = words[1];
  }
  auto payload = words.size() > 2 && words[2] == "-"
                     ? read_text("-")
                     : expected<std::string>{words.size() > 2 ? words[2] : ""};
  if (!payload)
    return report(s, payload.error());
  what.payload = std::move(*payload);
  auto answer = std::move(ask_all(s, {what}).front());
  if (!answer)
    return report(s, explain(s, answer.error(), what.destination, what.argument));
  auto& text = *answer;
  if (!text.empty() && text.back() != '\n')
    text += '\n';
  return print(s, text);
}

namespace {

expected<std::string> ask_xml(session& s, const std::string& domain, bool plain) {
  auto answer =
      s.daemon.ask({.method = "qvmd.Xml", .argument = plain ? "plain" : "", .destination = domain});
  if (!answer && answer.error().klass == "ProtocolError")
    answer.error().hint = "only qvmd has this; another daemon serves this socket";
  if (!answer)
    return tl::unexpected{explain(s, answer.error(), domain, "")};
  return *answer;
}

} // namespace

exit_code run_xml(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  auto text = ask_xml(s, *domain, s.line.plain && !s.line.diff);
  if (!text && text.error().hint.empty()
      && text.error().text.find("has no XML") != std::string::npos)
    text.error().hint = "only domains that are started here have one";
  if (!text)
    return report(s, text.error());
  if (!s.line.diff)
    return print(s, *text);
  auto plain = ask_xml(s, *domain, true);
  if (!plain)
    return report(s, plain.error());
  return print(s, line_diff(*plain, *text));
}

namespace {

exit_code print_manual(session& s) {
  if (s.line.words.empty())
    return print(s, manual_pages(commands()));
  auto page = manual_page(s.line.words[0], commands());
  if (!page)
    return report(s, usage_failure(fmt::format("no page '{}'", s.line.words[0]),
                                   "'qvmctl help --man' lists them")
                         .value());
  return print(s, *page);
}

exit_code print_topic(session& s, std::vector<std::string> known) {
  const auto& word = s.line.words[0];
  if (auto page = help_of_topic(word, commands()); page && s.line.words.size() == 1)
    return print(s, *page);
  for (auto& x : topics(commands()))
    known.push_back(x.name);
  auto hint = did_you_mean(word, known);
  return report(s, usage_failure(fmt::format("no command or topic '{}'", word),
                                 hint.empty() ? "'qvmctl help' lists them" : hint)
                       .value());
}

} // namespace

exit_code run_help(session& s) {
  if (s.line.markdown)
    return print(s, markdown(commands()));
  if (s.line.man)
    return print_manual(s);
  if (s.line.words.empty())
    return print(s, overall_help(commands()));
  auto argv = s.line.words;
  if (const auto known = first_words(commands()); std::ranges::find(known, argv[0]) == known.end())
    return print_topic(s, known);
  argv.emplace_back("--help");
  auto parsed = parse(argv, commands());
  if (!parsed)
    return report(s, parsed.error());
  if (const auto& rest = parsed->line.words; parsed->what && !rest.empty())
    return report(
        s, usage_failure(
               fmt::format("'{}' has no part '{}' to explain", parsed->what->name, rest.front()),
               fmt::format("'qvmctl help {}' explains all of it", parsed->what->name))
               .value());
  return print(s, parsed->what ? help_of(*parsed->what) : help_of_group(argv.front(), commands()));
}

} // namespace qubes::ctl
