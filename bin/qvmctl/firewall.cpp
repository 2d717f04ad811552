// firewall: the rules of domains, as rows, as changes of one, as a file.
#include "model/network/firewall.hpp"
#include "bin/qvmctl/diff.hpp"
#include "bin/qvmctl/domain_table.hpp"
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <functional>

namespace qubes::ctl {

namespace {

using nlohmann::json;

expected<model::firewall_rules> rules_of(session& s, const std::string& domain) {
  auto answer = s.daemon.ask({"admin.vm.firewall.Get", "", domain, ""});
  if (!answer)
    return tl::unexpected{explain(s, answer.error(), domain, "")};
  if (answer->empty())
    return model::firewall_rules{};
  auto rules = model::parse_rules(*answer);
  if (!rules)
    return tl::unexpected{failure{trouble::broken, "", rules.error().text, ""}};
  return *rules;
}

std::string text_of(const model::firewall_rules& all) {
  auto result = std::string{};
  for (auto& x : all)
    result += model::print(x) + "\n";
  return result;
}

/// From the rules of a domain, which is named, to what they are to be.
using edit = std::function<expected<model::firewall_rules>(model::firewall_rules,
                                                           const std::string& domain)>;

/// Changes the rules of all domains named, or shows what would differ.
exit_code change_rules(session& s, const edit& edit_rules) {
  auto domains = domain_words(s);
  if (!domains)
    return report(s, domains.error());
  auto changes = std::vector<change>{};
  for (auto& x : *domains) {
    auto now = rules_of(s, x);
    auto then = now ? edit_rules(*now, x) : tl::unexpected{now.error()};
    if (!then)
      return report(s, then.error());
    if (then->empty())
      return report(s, {trouble::refused, "", fmt::format("'{}' would have no rule left", x),
                        "add one first; 'drop' alone lets nothing through"});
    auto text = text_of(*then);
    auto differs = line_diff(text_of(*now), text);
    changes.push_back(
        {{"admin.vm.firewall.Set", "", x, text},
         "",
         fmt::format("{}: firewall\n{}", x, differs.empty() ? "no change" : differs)});
  }
  return make_changes(s, changes);
}

/// +SECONDS from now, or seconds since 1970, which must be to come.
expected<std::int64_t> time_of_expiry(std::string_view text) {
  auto after = text.starts_with('+');
  auto digits = text.substr(after ? 1 : 0);
  auto number = std::uint32_t{0};
  auto [end, bad] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (bad != std::errc{} || end != digits.data() + digits.size())
    return usage_failure(fmt::format("--expire takes +SECONDS, not '{}'", text),
                         "+3600 is in an hour; seconds since 1970 are taken as well");
  auto now = std::int64_t{std::time(nullptr)};
  auto when = after ? now + number : std::int64_t{number};
  if (when <= now)
    return usage_failure(fmt::format("--expire {} is over already", text),
                         "+3600 is in an hour from now");
  return when;
}

/// Digits and dots that are no address would be looked up as a name, and never found.
expected<void> check_host(const model::firewall_rule& x) {
  if (x.kind != model::destination::host
      || x.target.find_first_not_of("0123456789.") != std::string::npos)
    return {};
  return usage_failure(fmt::format("'{}' is no address", x.target),
                       "four numbers from 0 to 255, for example 10.0.0.1");
}

/// Accepts "accept", "drop", then HOST, PROTOCOL and PORTS or a type of ICMP, or KEY=VALUE
/// anywhere.
expected<model::firewall_rule> rule_of(session& s, std::size_t from) {
  auto line = std::string{};
  auto place = 0;
  auto icmp = false;
  for (auto i = from; i < s.line.words.size(); ++i) {
    const auto& word = s.line.words[i];
    if (word.find_first_of(" \t\n") != std::string::npos)
      return usage_failure(fmt::format("'{}' has blanks", word), "one field per word");
    auto field = word;
    if (word.find('=') == std::string::npos) {
      icmp = icmp || word == "icmp";
      switch (place++) {
      case 0: field = "action=" + word; break;
      case 1:
        field = word == "*" || word == "any" ? ""
                : word == "dns"              ? "specialtarget=dns"
                                             : "dsthost=" + word;
        break;
      case 2: field = word == "any" ? "" : "proto=" + word; break;
      case 3: field = (icmp ? "icmptype=" : "dstports=") + word; break;
      default:
        return usage_failure(fmt::format("'{}' is one field too many", word),
                             "ACTION [HOST [PROTOCOL [PORTS]]]");
      }
    }
    if (!field.empty())
      line += (line.empty() ? "" : " ") + field;
  }
  if (s.line.expire) {
    auto when = time_of_expiry(*s.line.expire);
    if (!when)
      return tl::unexpected{when.error()};
    line += fmt::format(" expire={}", *when);
  }
  if (!s.line.comment.empty())
    line += " comment=" + s.line.comment;
  auto rule = model::parse_rule(line);
  if (!rule)
    return bad_word(rule.error());
  return check_host(*rule).map([&] { return *rule; });
}

std::string where_rules_are(const std::string& domain) {
  return fmt::format("'qvmctl firewall ls {}' shows them", domain);
}

expected<std::size_t> number_of(const std::string& word, std::size_t size, bool end_too,
                                const std::string& domain) {
  auto number = std::size_t{0};
  auto [end, bad] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (bad != std::errc{} || end != word.data() + word.size())
    return usage_failure(fmt::format("'{}' is no number of a rule", word), where_rules_are(domain));
  if (number >= size + (end_too ? 1 : 0))
    return tl::unexpected{failure{trouble::refused, "", fmt::format("there is no rule {}", number),
                                  fmt::format("they go from 0 to {}", size - 1)}};
  return number;
}

/// The rule as it is; where no comment was given, the one that is like it but for its comment.
expected<model::firewall_rules::const_iterator> find_rule(const model::firewall_rules& all,
                                                          model::firewall_rule wanted,
                                                          const std::string& domain) {
  if (auto same = std::ranges::find(all, wanted); same != all.end())
    return same;
  auto alike = [&](model::firewall_rule x) {
    x.comment.clear();
    return x == wanted;
  };
  auto found = std::ranges::find_if(all, alike);
  if (found == all.end())
    return tl::unexpected{failure{
        trouble::refused, "", fmt::format("'{}' has no rule '{}'", domain, model::print(wanted)),
        where_rules_are(domain)}};
  if (std::ranges::count_if(all, alike) > 1)
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("several rules of '{}' are '{}' and differ in their "
                                              "comments",
                                              domain, model::print(wanted)),
                                  "give --comment as well, or the rule's number"}};
  return found;
}

std::string host_of(const model::firewall_rule& x) {
  return x.kind ? x.target : "";
}

/// Seconds since 1970 for programs, what is left of them for people.
json end_of_rule(const session& s, const std::string& expire) {
  auto at = model::parse_integer(expire);
  if (!at || s.as != format::table)
    return expire.empty() ? json{} : json(expire);
  auto now = std::chrono::duration_cast<std::chrono::seconds>(
                 std::chrono::system_clock::now().time_since_epoch())
                 .count();
  return *at <= now ? json("over") : json("in " + duration(static_cast<double>(*at - now)));
}

} // namespace

exit_code run_firewall_ls(session& s) {
  auto domains = domain_words(s);
  if (!domains)
    return report(s, domains.error());
  auto result = domain_table{s,
                             {{"no"},
                              {"action"},
                              {"host"},
                              {"protocol"},
                              {"ports"},
                              {"icmp_type"},
                              {"special"},
                              {"expire"},
                              {"comment"}}};
  auto text_or_null = [](const std::string& x) { return x.empty() ? json{} : json(x); };
  for (auto& domain : *domains) {
    auto rules = rules_of(s, domain);
    if (!rules)
      return report(s, rules.error());
    for (auto i = std::size_t{0}; i < rules->size(); ++i) {
      const auto& x = (*rules)[i];
      auto ports = !x.dstports ? std::string{}
                   : x.dstports->first == x.dstports->last
                       ? fmt::format("{}", x.dstports->first)
                       : fmt::format("{}-{}", x.dstports->first, x.dstports->last);
      result.add(domain, {{i},
                          {x.accept ? "accept" : "drop", x.accept ? style::good : style::bad},
                          {text_or_null(host_of(x))},
                          {text_or_null(x.proto)},
                          {text_or_null(ports)},
                          {x.icmptype ? json(*x.icmptype) : json{}},
                          {x.dns ? json("dns") : json{}},
                          {end_of_rule(s, x.expire)},
                          {text_or_null(x.comment)}});
    }
  }
  return result.print();
}

exit_code run_firewall_add(session& s) {
  auto rule = rule_of(s, 1);
  if (!rule)
    return report(s, rule.error());
  return change_rules(
      s,
      [&](model::firewall_rules all, const std::string& domain) -> expected<model::firewall_rules> {
        auto at = expected<std::size_t>{all.size()};
        if (!s.line.before.empty())
          at = number_of(s.line.before, all.size(), true, domain);
        if (!at)
          return tl::unexpected{at.error()};
        all.insert(all.begin() + static_cast<std::ptrdiff_t>(*at), *rule);
        return all;
      });
}

exit_code run_firewall_del(session& s) {
  auto numbers = std::all_of(s.line.words.begin() + 1, s.line.words.end(), [](auto& x) {
    return !x.empty() && x.find_first_not_of("0123456789") == std::string::npos;
  });
  auto rule = numbers ? expected<model::firewall_rule>{} : rule_of(s, 1);
  if (!rule)
    return report(s, rule.error());
  return change_rules(
      s,
      [&](model::firewall_rules all, const std::string& domain) -> expected<model::firewall_rules> {
        if (!numbers) {
          auto found = find_rule(all, *rule, domain);
          if (!found)
            return tl::unexpected{std::move(found.error())};
          all.erase(*found);
          return all;
        }
        auto numbers = std::vector<std::size_t>{};
        for (auto i = std::size_t{1}; i < s.line.words.size(); ++i) {
          auto number = number_of(s.line.words[i], all.size(), false, domain);
          if (!number)
            return tl::unexpected{number.error()};
          numbers.push_back(*number);
        }
        std::sort(numbers.begin(), numbers.end(), std::greater{});
        numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
        for (auto x : numbers)
          all.erase(all.begin() + static_cast<std::ptrdiff_t>(x));
        return all;
      });
}

exit_code run_firewall_reset(session& s) {
  return change_rules(s, [](auto, auto&) { return model::accept_all(); });
}

exit_code run_firewall_apply(session& s) {
  auto text = read_text(s.line.words[1]);
  if (!text)
    return report(s, text.error());
  auto rules = model::firewall_rules{};
  auto number = 0;
  for (auto& line : lines_of(*text)) {
    ++number;
    if (line.empty() || line.front() == '#')
      continue;
    auto rule = model::parse_rule(line);
    if (!rule)
      return report(s, {trouble::usage, "",
                        fmt::format("{}, line {}: {}", s.line.words[1], number, rule.error().text),
                        rule.error().hint});
    if (auto good = check_host(*rule); !good)
      return report(s, {trouble::usage, "",
                        fmt::format("{}, line {}: {}", s.line.words[1], number, good.error().text),
                        good.error().hint});
    rules.push_back(std::move(*rule));
  }
  return change_rules(s, [&](auto, auto&) { return rules; });
}

} // namespace qubes::ctl
