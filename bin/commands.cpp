#include "bin/commands.hpp"

#include "bin/ctl_diff.hpp"
#include "bin/ctl_domains.hpp"
#include "bin/ctl_lifecycle.hpp"
#include "model/literal.hpp"
#include "model/name.hpp"
#include "model/power.hpp"
#include "model/version.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <set>

namespace qubes::ctl {

namespace {

using nlohmann::json;

constexpr auto default_socket = "/var/run/qubesd.sock";

// -- shared ---------------------------------------------------------------------------------

std::vector<std::string> lines_of(std::string_view text) {
  auto result = std::vector<std::string>{};
  while (!text.empty()) {
    auto end = std::min(text.find('\n'), text.size());
    result.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

expected<json> ask_json(session& s, std::string method) {
  auto answer = s.daemon.ask({.method = method});
  if (!answer && answer.error().klass == "ProtocolError")
    answer.error().hint = "only qvmd has this; another daemon serves this socket";
  if (!answer)
    return tl::unexpected{answer.error()};
  auto result = json::parse(*answer, nullptr, false);
  if (result.is_discarded())
    return tl::unexpected{failure{trouble::broken, "",
                                  fmt::format("the answer to {} is not JSON", method),
                                  "the daemon and qvmctl may be of different versions"}};
  return result;
}

/// Where near names are looked up when the daemon knows no such thing.
struct known_row {
  std::string_view klass;
  std::string_view list;      ///< method that lists the names
  std::string_view host_list; ///< the same for "@host"
};

constexpr std::array known_table{
    known_row{"QubesNoSuchPropertyError", "admin.vm.property.List", "admin.property.List"},
    known_row{"QubesFeatureNotFoundError", "admin.vm.feature.List", ""},
    known_row{"QubesTagNotFoundError", "admin.vm.tag.List", ""},
};

bool is_host(std::string_view domain) {
  return domain == "@host";
}

/// Adds near names to a refusal about `word` of `domain`.
failure explain(session& s, failure why, const std::string& domain, const std::string& word) {
  if (!why.hint.empty() || why.text.find("did you mean") != std::string::npos)
    return why;
  if (why.klass == "QubesVMNotFoundError") {
    auto all = roster::fetch(s.daemon);
    if (!all || all->find(domain))
      return why;
    auto names = std::vector<std::string>{};
    for (auto& x : all->all())
      names.push_back(x.name);
    return no_such_domain(domain, names);
  }
  for (auto& x : known_table) {
    if (x.klass != why.klass)
      continue;
    auto list = s.daemon.ask({.method = std::string{is_host(domain) ? x.host_list : x.list},
                              .destination = is_host(domain) ? "dom0" : domain});
    if (!list)
      return why;
    if (auto near = model::nearest(word, lines_of(*list)); !near.empty())
      why.hint = fmt::format("did you mean '{}'?", near);
  }
  return why;
}

/// One change to a domain, and what it is about.
struct wish {
  request what;
  std::string word;
};

/// Asks for all changes at once, or for what they would do.
exit_code make_changes(session& s, const std::string& domain, const std::vector<wish>& wishes) {
  struct result {
    const wish* of;
    expected<std::string> answer;
  };
  auto results = std::vector<result>{};
  for (auto& x : wishes) {
    auto what = x.what;
    if (s.line.dry_run) {
      what.argument = what.method + "+" + what.argument;
      what.method = "qvmd.Plan";
    }
    s.daemon.send(what, std::nullopt, [&results, &x](auto answer) {
      results.push_back({&x, std::move(answer)});
    });
  }
  s.daemon.run([&] { return results.size() == wishes.size(); });
  auto code = exit_code::done;
  auto good = std::size_t{0};
  for (auto& x : results) {
    if (!x.answer) {
      code = report(s, explain(s, std::move(x.answer.error()), domain, x.of->word));
      continue;
    }
    ++good;
    if (!s.line.dry_run)
      continue;
    auto text = std::string{};
    for (auto& line : lines_of(*x.answer))
      text += printable(line) + "\n";
    if (print(s, text.empty() ? "nothing would change\n" : text) != exit_code::done)
      return exit_code::refused;
  }
  return good > 0 && good < wishes.size() ? exit_code::partly : code;
}

/// The domain a command is about: its first word, checked. "@host" where a command allows it.
expected<std::string> domain_word(session& s, bool host_too = false) {
  const auto& name = s.line.words.front();
  if (host_too && is_host(name))
    return name;
  return check_name(name).map([&] { return name; });
}

tl::unexpected<failure> bad_word(const model::error& why) {
  return tl::unexpected{failure{trouble::usage, "", why.text, why.hint}};
}

// -- listings -------------------------------------------------------------------------------

json or_null(const std::optional<std::string>& x) {
  return x ? json(*x) : json{};
}
json or_null(const std::optional<std::int64_t>& x) {
  return x ? json(*x) : json{};
}

struct ls_column {
  std::string_view key;
  bool right;
  sheet::cell (*of)(const entry&);
};

constexpr std::string_view ls_default = "name,state,class,label,template,netvm";

constexpr std::array ls_columns{
    ls_column{"name", false,
              [](const entry& x) {
                return sheet::cell{x.name, style::plain, x.color};
              }},
    ls_column{"state", false,
              [](const entry& x) {
                return sheet::cell{x.state, style_of_state(x.state)};
              }},
    ls_column{"class", false, [](const entry& x) { return sheet::cell{x.klass}; }},
    ls_column{"label", false,
              [](const entry& x) {
                return sheet::cell{x.label, style::plain, x.color};
              }},
    ls_column{"template", false, [](const entry& x) { return sheet::cell{or_null(x.based_on)}; }},
    ls_column{"netvm", false, [](const entry& x) { return sheet::cell{or_null(x.netvm)}; }},
    ls_column{"ip", false, [](const entry& x) { return sheet::cell{or_null(x.ip)}; }},
    ls_column{"provides_network", false,
              [](const entry& x) { return sheet::cell{x.provides_network}; }},
    ls_column{"memory", true, [](const entry& x) { return sheet::cell{or_null(x.memory)}; }},
    ls_column{"maxmem", true, [](const entry& x) { return sheet::cell{or_null(x.maxmem)}; }},
    ls_column{"xid", true,
              [](const entry& x) { return sheet::cell{x.xid < 0 ? json{} : json(x.xid)}; }},
    ls_column{"uuid", false,
              [](const entry& x) {
                return sheet::cell{x.uuid, style::dim};
              }},
    ls_column{"degraded", false,
              [](const entry& x) {
                return sheet::cell{x.degraded, x.degraded ? style::bad : style::dim};
              }},
};

expected<std::vector<const ls_column*>> choose_columns(const std::vector<std::string>& keys) {
  auto result = std::vector<const ls_column*>{};
  auto names = std::vector<std::string>{};
  for (auto& x : ls_columns)
    names.emplace_back(x.key);
  for (auto key : keys) {
    std::transform(key.begin(), key.end(), key.begin(), [](unsigned char x) {
      return x == '-' ? '_' : static_cast<char>(std::tolower(x));
    });
    auto found =
        std::find_if(ls_columns.begin(), ls_columns.end(), [&](auto& x) { return x.key == key; });
    if (key == "all") {
      for (auto& x : ls_columns)
        result.push_back(&x);
    } else if (found != ls_columns.end()) {
      result.push_back(&*found);
    } else {
      auto near = model::nearest(key, names);
      return tl::unexpected{failure{trouble::usage, "", fmt::format("no column '{}'", key),
                                    near.empty() ? fmt::format("one of: {}", fmt::join(names, ", "))
                                                 : fmt::format("did you mean '{}'?", near)}};
    }
  }
  return result;
}

exit_code run_ls(session& s) {
  auto keys = s.line.columns;
  if (keys.empty())
    for (auto rest = ls_default; !rest.empty();) {
      auto comma = std::min(rest.find(','), rest.size());
      keys.emplace_back(rest.substr(0, comma));
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  auto columns = choose_columns(keys);
  if (!columns)
    return report(s, columns.error());
  auto all = roster::fetch(s.daemon);
  if (!all)
    return report(s, all.error());
  auto shown = std::set<const entry*>{};
  if (!s.line.words.empty()) {
    auto chosen = all->choose(s.line.words);
    if (!chosen)
      return report(s, chosen.error());
    shown.insert(chosen->begin(), chosen->end());
  }
  auto heads = std::vector<sheet::column>{};
  for (auto x : *columns)
    heads.push_back({std::string{x->key}, x->right});
  auto result = sheet{std::move(heads)};
  for (auto& x : all->all()) {
    if (!shown.empty() && !shown.contains(&x))
      continue;
    auto row = std::vector<sheet::cell>{};
    row.reserve(columns->size());
    for (auto column : *columns)
      row.push_back(column->of(x));
    result.add(std::move(row));
  }
  return print(s, result.render(s.as, s.out));
}

/// The network as a forest: netvms over their clients, domains without network last.
class network {
public:
  explicit network(const roster& all) : all_(all) {
    for (auto& x : all.all())
      if (auto netvm = x.netvm ? all.find(*x.netvm) : nullptr)
        clients_[netvm].push_back(&x);
      else
        roots_.push_back(&x);
    std::stable_partition(roots_.begin(), roots_.end(),
                          [&](auto x) { return clients_.contains(x); });
    for (auto x : roots_)
      mark(*x);
    for (auto& x : all.all()) // whatever hangs in a loop still has to be seen
      if (!seen_.contains(&x)) {
        roots_.push_back(&x);
        mark(x);
      }
  }

  sheet drawn() const {
    auto result = sheet{{{"name"}, {"state"}, {"class"}, {"label"}, {"ip"}}};
    for (auto x : roots_)
      draw(result, *x, "", "");
    return result;
  }

  json nested() const {
    auto result = json::array();
    for (auto x : roots_)
      result.push_back(nest(*x));
    return result;
  }

private:
  void mark(const entry& x) {
    seen_.insert(&x);
    auto found = clients_.find(&x);
    if (found == clients_.end())
      return;
    std::erase_if(found->second, [&](auto y) { return seen_.contains(y); });
    for (auto y : found->second)
      mark(*y);
  }

  void draw(sheet& to, const entry& x, const std::string& branch, const std::string& below) const {
    to.add({{x.name, style::plain, x.color, branch},
            {x.state, style_of_state(x.state)},
            {x.klass},
            {x.label, style::plain, x.color},
            {or_null(x.ip)}});
    auto found = clients_.find(&x);
    if (found == clients_.end())
      return;
    for (auto y : found->second) {
      auto last = y == found->second.back();
      draw(to, *y, below + (last ? "└─ " : "├─ "), below + (last ? "   " : "│  "));
    }
  }

  json nest(const entry& x) const {
    auto clients = json::array();
    if (auto found = clients_.find(&x); found != clients_.end())
      for (auto y : found->second)
        clients.push_back(nest(*y));
    return {{"name", x.name},   {"state", x.state},    {"class", x.klass},
            {"label", x.label}, {"ip", or_null(x.ip)}, {"clients", std::move(clients)}};
  }

  const roster& all_;
  std::vector<const entry*> roots_;
  std::map<const entry*, std::vector<const entry*>> clients_;
  std::set<const entry*> seen_;
};

exit_code run_tree(session& s) {
  auto all = roster::fetch(s.daemon);
  if (!all)
    return report(s, all.error());
  auto shape = network{*all};
  if (s.as == format::json)
    return print(s, dump(shape.nested(), 2) + "\n");
  return print(s, shape.drawn().render(s.as, s.out));
}

// -- properties -----------------------------------------------------------------------------

/// `default=True type=int 400`, as admin.vm.property.Get answers.
struct property_value {
  bool at_default = false;
  std::string type;
  std::string text;
};

expected<property_value> parse_property(std::string_view text) {
  auto result = property_value{};
  auto take = [&](std::string_view key) -> std::optional<std::string> {
    if (!text.starts_with(key))
      return std::nullopt;
    text.remove_prefix(key.size());
    auto end = text.find(' ');
    if (end == std::string_view::npos)
      return std::nullopt;
    auto value = std::string{text.substr(0, end)};
    text.remove_prefix(end + 1);
    return value;
  };
  auto at_default = take("default=");
  auto type = at_default ? take("type=") : std::nullopt;
  if (!type)
    return tl::unexpected{
        failure{trouble::broken, "", "the daemon's answer is not a property's value", ""}};
  return property_value{*at_default == "True", std::move(*type), std::string{text}};
}

std::string unescape(std::string_view text) {
  auto result = std::string{};
  for (auto i = std::size_t{0}; i < text.size(); ++i)
    if (text[i] == '\\' && i + 1 < text.size())
      result += text[++i] == 'n' ? '\n' : text[i];
    else
      result += text[i];
  return result;
}

json typed(const property_value& x) {
  if (x.text.empty() && x.type != "str")
    return {};
  if (x.type == "bool")
    return x.text == "True";
  auto number = std::int64_t{0};
  if (x.type == "int"
      && std::from_chars(x.text.data(), x.text.data() + x.text.size(), number).ec == std::errc{})
    return number;
  return x.text;
}

/// A domain property that is set to nothing reads "none", which `set` takes as well.
std::string shown_text(const property_value& x) {
  return x.text.empty() && x.type == "vm" ? "none" : x.text;
}

std::string property_name(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

request property_request(std::string_view what, const std::string& domain, std::string name,
                         std::string payload = {}) {
  auto host = is_host(domain);
  return {fmt::format("admin.{}property.{}", host ? "" : "vm.", what), std::move(name),
          host ? "dom0" : domain, std::move(payload)};
}

sheet property_sheet() {
  return sheet{{{"name"}, {"default"}, {"value"}}};
}

std::vector<sheet::cell> property_row(const session& s, const std::string& name,
                                      const property_value& x) {
  auto value = s.as == format::json ? typed(x) : json(shown_text(x));
  auto look = x.at_default ? style::dim : style::plain;
  return {{name, style::plain}, {x.at_default, style::dim}, {value, look}};
}

exit_code get_all(session& s, const std::string& domain) {
  auto answer = s.daemon.ask(property_request("GetAll", domain, ""));
  if (!answer)
    return report(s, explain(s, answer.error(), domain, ""));
  auto result = property_sheet();
  for (auto& line : lines_of(*answer)) {
    auto blank = line.find(' ');
    auto value = parse_property(blank == std::string::npos ? "" : unescape(line.substr(blank + 1)));
    if (!value)
      return report(s, value.error());
    result.add(property_row(s, line.substr(0, blank), *value));
  }
  return print(s, result.render(s.as, s.out));
}

/// Raw for programs; on a terminal nothing of it may act as a control sequence.
std::string raw(const session& s, const std::string& text) {
  return s.out.terminal ? printable(text) : text;
}

exit_code run_get(session& s) {
  auto domain = domain_word(s, true);
  if (!domain)
    return report(s, domain.error());
  if (s.line.words.size() == 1)
    return get_all(s, *domain);
  auto name = property_name(s.line.words[1]);
  auto answer = s.daemon.ask(property_request("Get", *domain, name));
  if (!answer)
    return report(s, explain(s, answer.error(), *domain, name));
  auto value = parse_property(*answer);
  if (!value)
    return report(s, value.error());
  if (s.as == format::table)
    return print(s, raw(s, shown_text(*value)) + "\n");
  auto result = property_sheet();
  result.add(property_row(s, name, *value));
  return print(s, result.render(s.as, s.out));
}

exit_code run_set(session& s) {
  auto domain = domain_word(s, true);
  if (!domain)
    return report(s, domain.error());
  auto name = property_name(s.line.words[1]);
  auto value = s.line.words[2];
  // As qvm-prefs reads it, in any case; for other types it is a text like any.
  if (model::lower_case(value) == "none") {
    auto now = s.daemon.ask(property_request("Get", *domain, name));
    if (!now)
      return report(s, explain(s, now.error(), *domain, name));
    if (auto parsed = parse_property(*now); parsed && parsed->type == "vm")
      value.clear();
  }
  return make_changes(s, *domain, {{property_request("Set", *domain, name, value), name}});
}

exit_code run_reset(session& s) {
  auto domain = domain_word(s, true);
  if (!domain)
    return report(s, domain.error());
  auto wishes = std::vector<wish>{};
  for (auto i = std::size_t{1}; i < s.line.words.size(); ++i) {
    auto name = property_name(s.line.words[i]);
    wishes.push_back({property_request("Reset", *domain, name), name});
  }
  return make_changes(s, *domain, wishes);
}

// -- features and tags ----------------------------------------------------------------------

/// The domain and the feature a command names, both checked.
expected<std::string> feature_word(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return domain;
  if (auto good = model::check_feature_name(s.line.words[1]); !good)
    return bad_word(good.error());
  return domain;
}

exit_code run_feature_get(session& s) {
  auto domain = feature_word(s);
  if (!domain)
    return report(s, domain.error());
  auto answer = s.daemon.ask({"admin.vm.feature.Get", s.line.words[1], *domain, ""});
  if (!answer)
    return report(s, explain(s, answer.error(), *domain, s.line.words[1]));
  return print(s, raw(s, *answer) + "\n");
}

exit_code run_feature_set(session& s) {
  auto domain = feature_word(s);
  if (!domain)
    return report(s, domain.error());
  const auto& name = s.line.words[1];
  const auto& value = s.line.words[2];
  if (auto good = model::check_feature_value(name, value); !good)
    return report(s, bad_word(good.error()).value());
  return make_changes(s, *domain, {{{"admin.vm.feature.Set", name, *domain, value}, name}});
}

exit_code run_feature_unset(session& s) {
  auto domain = feature_word(s);
  if (!domain)
    return report(s, domain.error());
  const auto& name = s.line.words[1];
  return make_changes(s, *domain, {{{"admin.vm.feature.Remove", name, *domain, ""}, name}});
}

exit_code run_feature_ls(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  auto list = s.daemon.ask({"admin.vm.feature.List", "", *domain, ""});
  if (!list)
    return report(s, explain(s, list.error(), *domain, ""));
  const auto names = lines_of(*list);
  auto values = std::vector<std::optional<expected<std::string>>>(names.size());
  auto missing = names.size();
  for (auto i = std::size_t{0}; i < names.size(); ++i)
    s.daemon.send({"admin.vm.feature.Get", names[i], *domain, ""}, std::chrono::seconds{60},
                  [&, i](auto answer) {
                    values[i] = std::move(answer);
                    --missing;
                  });
  s.daemon.run([&] { return missing == 0; });
  auto result = sheet{{{"name"}, {"value"}}};
  for (auto i = std::size_t{0}; i < names.size(); ++i) {
    auto& value = *values[i];
    if (value)
      result.add({{names[i]}, {*value}});
    else if (value.error().klass != "QubesFeatureNotFoundError") // removed in between
      return report(s, value.error());
  }
  return print(s, result.render(s.as, s.out));
}

exit_code run_tag_ls(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  auto list = s.daemon.ask({"admin.vm.tag.List", "", *domain, ""});
  if (!list)
    return report(s, explain(s, list.error(), *domain, ""));
  auto result = sheet{{{"tag"}}};
  for (auto& x : lines_of(*list))
    result.add({{x}});
  return print(s, result.render(s.as, s.out));
}

exit_code change_tags(session& s, const char* method) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  auto wishes = std::vector<wish>{};
  for (auto i = std::size_t{1}; i < s.line.words.size(); ++i) {
    const auto& tag = s.line.words[i];
    if (auto good = model::check_tag(tag); !good)
      return report(s, bad_word(good.error()).value());
    wishes.push_back({{method, tag, *domain, ""}, tag});
  }
  return make_changes(s, *domain, wishes);
}

exit_code run_tag_add(session& s) {
  return change_tags(s, "admin.vm.tag.Set");
}

exit_code run_tag_del(session& s) {
  return change_tags(s, "admin.vm.tag.Remove");
}

// -- events ---------------------------------------------------------------------------------

std::string clock_text(bool utc) {
  auto now = timespec{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  auto parts = tm{};
  utc ? ::gmtime_r(&now.tv_sec, &parts) : ::localtime_r(&now.tv_sec, &parts);
  char text[32];
  auto size =
      std::strftime(text, sizeof(text), utc ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &parts);
  return fmt::format("{}.{:03}{}", std::string_view{text, size}, now.tv_nsec / 1'000'000,
                     utc ? "Z" : "");
}

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
  s.daemon.subscribe(
      {.method = "admin.Events", .destination = domain},
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

// -- the daemon itself ----------------------------------------------------------------------

std::string text(const json& x, const char* key) {
  auto found = x.is_object() ? x.find(key) : x.end();
  if (!x.is_object() || found == x.end() || found->is_null())
    return {};
  return printable(found->is_string() ? found->get<std::string>() : dump(*found));
}

double number(const json& x, const char* key) {
  auto found = x.is_object() ? x.find(key) : x.end();
  return x.is_object() && found != x.end() && found->is_number() ? found->get<double>() : 0;
}

const json& part(const json& x, const char* key) {
  static const auto nothing = json::array();
  auto found = x.is_object() ? x.find(key) : x.end();
  return x.is_object() && found != x.end() ? *found : nothing;
}

/// Paragraphs of `status`: a heading, then one line per item.
class report_page {
public:
  explicit report_page(const screen& on) : on_(on) {}

  void fact(std::string_view name, std::string_view what) {
    text_ += fmt::format("{}{}\n", on_.paint(fmt::format("{:<12}", name), style::bold), what);
  }

  void list(std::string_view heading, const json& items, style look,
            const std::function<std::string(const json&)>& line) {
    if (!items.is_array() || items.empty())
      return;
    text_ += fmt::format("\n{}\n", on_.paint(heading, style::bold));
    for (auto& x : items)
      text_ += fmt::format("  {}\n", on_.paint(line(x), look));
  }

  const std::string& str() const { return text_; }

private:
  const screen& on_;
  std::string text_;
};

std::string milliseconds_text(const json& x, const char* key) {
  return duration(number(x, key) / 1000);
}

std::string step_texts(const json& steps) {
  auto result = std::vector<std::string>{};
  if (steps.is_array())
    for (auto& x : steps)
      result.push_back(fmt::format("{} {}", text(x, "name"), milliseconds_text(x, "ms")));
  return fmt::format("{}", fmt::join(result, ", "));
}

std::string status_page(const session& s, const json& x) {
  auto page = report_page{s.out};
  page.fact("qvmd", fmt::format("{}, up {}, {} connections", text(x, "version"),
                                duration(number(x, "uptime_seconds")), text(x, "connections")));
  const auto& hypervisor = part(x, "hypervisor");
  auto connected = text(hypervisor, "connected") == "true";
  auto reason = text(hypervisor, "reason");
  page.fact("hypervisor", fmt::format("{}  {} {}{}",
                                      connected ? s.out.paint("connected", style::good)
                                                : s.out.paint("not connected", style::bad),
                                      text(hypervisor, "type"), text(hypervisor, "uri"),
                                      reason.empty() ? "" : ": " + reason));
  const auto& store = part(x, "store");
  auto trouble = text(store, "error");
  page.fact("store",
            fmt::format("{}  {}, generation {}, {} batches written",
                        trouble.empty() ? s.out.paint("fine", style::good)
                                        : s.out.paint(trouble, style::bad),
                        text(store, "path"), text(store, "generation"), text(store, "batches")));
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
  page.list("set aside from qubes.xml", part(x, "quarantine"), style::bad, [](auto& y) {
    return fmt::format("{} {} (line {}): {}", text(y, "section"), text(y, "name"), text(y, "line"),
                       text(y, "reason"));
  });
  page.list("found at the start", part(x, "findings"), style::busy, [](auto& y) {
    auto line = text(y, "line"); // 0: in another file, which the text names
    return line == "0" ? text(y, "text") : fmt::format("line {}: {}", line, text(y, "text"));
  });
  page.list("found in qrexec's policy", part(part(x, "policy"), "findings"), style::bad,
            [](auto& y) { return fmt::format("{}: {}", text(y, "where"), text(y, "text")); });
  page.list("last operations", part(x, "timings"), style::plain, [](auto& y) {
    return fmt::format("{} {}: {} ({})", text(y, "operation"), text(y, "domain"),
                       milliseconds_text(y, "total_ms"), step_texts(part(y, "steps")));
  });
  return page.str();
}

exit_code run_status(session& s) {
  auto answer = ask_json(s, "qvmd.Status");
  if (!answer)
    return report(s, answer.error());
  if (s.as == format::json)
    return print(s, dump(*answer, 2) + "\n");
  if (s.as == format::table)
    return print(s, status_page(s, *answer));
  auto result = sheet{{{"key"}, {"value"}}};
  auto flat = answer->flatten();
  for (auto& [key, value] : flat.items())
    result.add({{key}, {value}});
  return print(s, result.render(s.as, s.out));
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
    auto place = std::ranges::find(families, family, [](auto& y) { return y.first; });
    if (place == families.end())
      place = families.insert(
          place, {family, fmt::format("\n## {}\n\nSocket: `{}`\n\n| method | argument | payload | "
                                      "to | what it does |\n|---|---|---|---|---|\n",
                                      family, text(x, "socket"))});
    place->second += fmt::format("| `{}` | {} | {} | {} | {} |\n", name, text(x, "argument"),
                                 text(x, "payload"), text(x, "destination"), text(x, "help"));
  }
  for (auto& [family, rows] : families)
    page += rows;
  return page;
}

exit_code run_api(session& s) {
  auto answer = ask_json(s, "qvmd.Methods");
  if (!answer)
    return report(s, answer.error());
  if (s.line.markdown)
    return print(s, api_page(*answer));
  auto result = sheet{{{"name"}, {"argument"}, {"payload"}, {"destination"}, {"socket"}, {"help"}}};
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

expected<std::string> payload_word(const std::string& word) {
  constexpr auto longest = std::size_t{1} << 20; // more than any daemon takes
  if (word != "-")
    return word;
  auto result = std::string{};
  char buffer[4096];
  while (auto got = std::fread(buffer, 1, sizeof buffer, stdin)) {
    result.append(buffer, got);
    if (result.size() > longest)
      return tl::unexpected{failure{trouble::usage, "", "the payload is too long",
                                    fmt::format("at most {} bytes", longest)}};
  }
  return result;
}

/// Whatever the other commands have no words for.
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
                      "'qvmctl events' prints events as they happen"});
  if (words.size() > 1) {
    if (auto good = check_name(words[1]); !good)
      return report(s, good.error());
    what.destination = words[1];
  }
  auto payload = payload_word(words.size() > 2 ? words[2] : "");
  if (!payload)
    return report(s, payload.error());
  what.payload = std::move(*payload);
  auto answer = std::optional<expected<std::string>>{};
  s.daemon.send(what, std::nullopt, [&](auto x) { answer = std::move(x); });
  s.daemon.run([&] { return answer.has_value(); });
  if (!*answer)
    return report(s, explain(s, answer->error(), what.destination, what.argument));
  auto& text = **answer;
  if (!text.empty() && text.back() != '\n')
    text += '\n';
  return print(s, text);
}

expected<std::string> ask_xml(session& s, const std::string& domain, bool plain) {
  auto answer =
      s.daemon.ask({.method = "qvmd.Xml", .argument = plain ? "plain" : "", .destination = domain});
  if (!answer && answer.error().klass == "ProtocolError")
    answer.error().hint = "only qvmd has this; another daemon serves this socket";
  if (!answer)
    return tl::unexpected{explain(s, answer.error(), domain, "")};
  return *answer;
}

exit_code run_xml(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  auto text = ask_xml(s, *domain, s.line.plain && !s.line.diff);
  if (!text)
    return report(s, text.error());
  if (!s.line.diff)
    return print(s, *text);
  auto plain = ask_xml(s, *domain, true);
  if (!plain)
    return report(s, plain.error());
  return print(s, line_diff(*plain, *text));
}

exit_code run_help(session& s) {
  if (s.line.markdown)
    return print(s, markdown(commands()));
  if (s.line.list_words)
    return print(s, completion_words(s.line.words, commands()));
  if (s.line.words.empty())
    return print(s, overall_help(commands()));
  auto argv = s.line.words;
  argv.emplace_back("--help");
  auto parsed = parse(argv, commands());
  if (!parsed)
    return report(s, parsed.error());
  return print(s, parsed->what ? help_of(*parsed->what) : help_of_group(argv.front(), commands()));
}

// -- the table ------------------------------------------------------------------------------

constexpr auto many = std::uint32_t{opt_all | opt_exclude | opt_wait | opt_dry_run | opt_format};

// clang-format off
constexpr std::array command_table{
  command{"See", "ls", "[DOMAIN...]", opt_columns | opt_format, "List domains", run_ls,
          "Columns: name, state, class, label, template, netvm, ip, provides_network, memory, maxmem, xid, uuid, degraded."},
  command{"See", "tree", "", opt_format, "Draw the network, netvms over their clients", run_tree, ""},
  command{"See", "status", "", opt_format, "Tell how the daemon is and what it is doing", run_status, ""},
  command{"See", "xml", "DOMAIN", opt_plain | opt_diff, "Show the libvirt XML that a domain would be started with now", run_xml,
          "A site's changes, libvirt/DOMAIN.xml below paths.config, are merged over it."},
  command{"See", "events", "[DOMAIN]", opt_json | opt_seconds, "Print events as they happen", run_events,
          "Without DOMAIN those of all domains and of the host. Ends with --for or an interrupt."},
  command{"See", "wait", "DOMAIN...", opt_state | opt_timeout | opt_format, "Wait until domains are in a state", run_wait, ""},

  command{"Run", "start", "DOMAIN...", many, "Start domains", run_deed,
          "Their netvms come up first. --dry-run shows the order."},
  command{"Run", "shutdown", "DOMAIN...", many | opt_force | opt_cascade, "Shut domains down", run_deed,
          "Clients go before their netvm, domains that do not depend on each other at once. Without --wait it returns when the guests were told."},
  command{"Run", "kill", "DOMAIN...", many, "End domains at once, like pulling the plug", run_deed, ""},
  command{"Run", "pause", "DOMAIN...", many, "Stop domains where they are", run_deed, ""},
  command{"Run", "unpause", "DOMAIN...", many, "Let paused domains go on", run_deed, ""},
  command{"Run", "suspend", "DOMAIN...", many, "Put domains to sleep", run_deed, ""},
  command{"Run", "resume", "DOMAIN...", many, "Wake sleeping domains", run_deed, ""},

  command{"Settings", "get", "DOMAIN [PROPERTY]", opt_host | opt_format, "Show one property or all", run_get,
          "DOMAIN is '@host' for the global properties. DEFAULT tells whether the value is the default; 'none' is no domain."},
  command{"Settings", "set", "DOMAIN PROPERTY VALUE", opt_host | opt_dry_run, "Set a property", run_set,
          "VALUE 'none', in any case, means no domain, e.g. 'qvmctl set work netvm none'. Put -- before a VALUE that starts with a dash."},
  command{"Settings", "reset", "DOMAIN PROPERTY...", opt_host | opt_dry_run, "Give properties back their default", run_reset, ""},
  command{"Settings", "feature ls", "DOMAIN", opt_format, "List features with their values", run_feature_ls, ""},
  command{"Settings", "feature get", "DOMAIN FEATURE", 0, "Show a feature's value", run_feature_get, ""},
  command{"Settings", "feature set", "DOMAIN FEATURE VALUE", opt_dry_run, "Set a feature", run_feature_set, ""},
  command{"Settings", "feature unset", "DOMAIN FEATURE", opt_dry_run, "Remove a feature", run_feature_unset, ""},
  command{"Settings", "tag ls", "DOMAIN", opt_format, "List tags", run_tag_ls, ""},
  command{"Settings", "tag add", "DOMAIN TAG...", opt_dry_run, "Add tags", run_tag_add, ""},
  command{"Settings", "tag del", "DOMAIN TAG...", opt_dry_run, "Remove tags", run_tag_del, ""},

  command{"Reference", "api", "[WORD...]", opt_format | opt_markdown, "List the methods the daemon serves", run_api, ""},
  command{"Reference", "call", "METHOD[+ARGUMENT] [DOMAIN] [PAYLOAD]", 0, "Call a method of the Admin API", run_call,
          "DOMAIN is dom0 unless it is given; PAYLOAD '-' is read from standard input. Waits for as long as the method takes."},
  command{"Reference", "help", "[COMMAND...]", opt_markdown | opt_words, "Explain qvmctl or one command", run_help, ""},
};
// clang-format on

std::string chosen_socket(const command_line& line) {
  if (!line.socket.empty())
    return line.socket;
  auto named = std::getenv("QVMCTL_SOCKET");
  return named && *named ? named : default_socket;
}

exit_code complain(const failure& why) {
  write_err(fmt::format("qvmctl: {}\n", printable(why.message())));
  return code_of(why.kind);
}

} // namespace

std::span<const command> commands() noexcept {
  return command_table;
}

exit_code report(const session& s, const failure& why) {
  auto mark = s.out.moving ? s.out.paint("qvmctl:", style::bad) : std::string{"qvmctl:"};
  write_err(fmt::format("{} {}\n", mark, printable(why.message())));
  return code_of(why.kind);
}

exit_code print(const session& s, std::string_view text) {
  if (write_out(text))
    return exit_code::done;
  return report(s, {trouble::refused, "",
                    fmt::format("cannot write the output: {}", std::strerror(errno)), ""});
}

exit_code run(std::span<const std::string> argv) {
  if (argv.empty()) {
    write_err(short_usage(commands()));
    return exit_code::usage;
  }
  auto parsed = parse(argv, commands());
  if (!parsed)
    return complain(parsed.error());
  auto& [what, line] = *parsed;
  auto as = parse_format(line.format);
  if (!as)
    return complain(
        {trouble::usage, "", fmt::format("no format '{}'", line.format), "table, csv or json"});
  auto socket = chosen_socket(line);
  auto s = session{std::move(line), client{std::move(socket)}, screen::detect(), *as,
                   what ? what->name : std::string_view{}};
  if (s.line.version)
    return print(s, fmt::format("qvmctl {}\n", model::version()));
  if (s.line.help) {
    if (what)
      return print(s, help_of(*what));
    return print(s, argv.front().starts_with('-') ? overall_help(commands())
                                                  : help_of_group(argv.front(), commands()));
  }
  if (!what) {
    write_err(short_usage(commands()));
    return exit_code::usage;
  }
  return what->run(s);
}

} // namespace qubes::ctl
