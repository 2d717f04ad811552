// Why a domain is as it is.
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/report.hpp"
#include "bin/qvmctl/requests.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

namespace qubes::ctl {

namespace {

using nlohmann::json;

/// In the words of a sentence.
std::string state_text(std::string x) {
  if (x == "Transient")
    return "coming up";
  std::ranges::transform(x, x.begin(), [](unsigned char c) { return std::tolower(c); });
  return x;
}

std::string with_remedy(std::string sentence, const std::string& remedy) {
  return remedy.empty() ? sentence : fmt::format("{}; {}", sentence, remedy);
}

std::string wait_text(const json& x) {
  return fmt::format("{}: in step '{}' for {}", text(x, "doing"), text(x, "step"),
                     milliseconds_text(x, "for_ms"));
}

std::string failure_text(const json& operation) {
  const auto& failure = part(operation, "failure");
  return with_remedy(text(failure, "cause"), text(failure, "remedy"));
}

/// The operation that ended last; null for none.
const json* last_of(const json& operations) {
  if (operations.is_array())
    for (auto& x : operations)
      if (text(x, "latest") == "true")
        return &x;
  return nullptr;
}

// -- the page -------------------------------------------------------------------------------------

/// The answer in one sentence.
std::string answer(const json& x) {
  auto is = fmt::format("{} is {}", text(x, "domain"), state_text(text(x, "state")));
  if (const auto& waits = part(x, "waits"); waits.is_array() && !waits.empty())
    return fmt::format("{} and waits: {}", is, wait_text(waits.front()));
  if (auto trouble = text(x, "degraded"); !trouble.empty())
    return fmt::format("{}, but degraded: {}", is, trouble);
  const auto& start = part(x, "start");
  if (const auto& wanting = part(start, "shortfall"); wanting.is_object())
    return fmt::format("{}, and a start would fail now: {}", is,
                       with_remedy(text(wanting, "text"), text(wanting, "remedy")));
  auto* last = last_of(part(x, "operations"));
  if (last && part(*last, "failure").is_object())
    return fmt::format("{}; its last {} failed {} ago: {}", is, text(*last, "operation"),
                       duration(number(*last, "seconds_ago")), failure_text(*last));
  return start.is_object() ? fmt::format("{}; nothing stands in its way", is)
                           : fmt::format("{}; nothing is known to be wrong", is);
}

std::string domains_text(const json& check) {
  auto names = std::vector<std::string>{};
  if (const auto& all = part(check, "domains"); all.is_array())
    for (auto& x : all)
      if (x.is_string())
        names.push_back(printable(x.get<std::string>()));
  constexpr auto most = std::size_t{6};
  auto more = names.size() > most ? fmt::format(" and {} more", names.size() - most) : "";
  names.resize(std::min(names.size(), most));
  return names.empty() ? "" : fmt::format(" ({}{})", fmt::join(names, ", "), more);
}

std::string check_text(const json& x) {
  return fmt::format("{:<11} {:<8} {}{}", text(x, "about"), text(x, "prospect"),
                     with_remedy(text(x, "text"), text(x, "remedy")), domains_text(x));
}

/// Of what is fine only that of which there is more to say.
json checks_to_show(const json& start) {
  auto result = json::array();
  if (const auto& all = part(start, "checks"); all.is_array())
    for (auto& x : all)
      if (text(x, "prospect") != "fine" || !text(x, "text").empty())
        result.push_back(x);
  return result;
}

std::string step_texts(const json& steps) {
  auto result = std::vector<std::string>{};
  if (steps.is_array())
    for (auto& x : steps)
      result.push_back(fmt::format("{} {}", text(x, "name"), milliseconds_text(x, "ms")));
  return fmt::format("{}", fmt::join(result, ", "));
}

std::string operation_text(const json& x) {
  auto failed = part(x, "failure").is_object();
  auto head = fmt::format("{}{}, {} ago, took {}", text(x, "operation"), failed ? " failed" : "",
                          duration(number(x, "seconds_ago")), milliseconds_text(x, "total_ms"));
  if (failed)
    head += fmt::format(": {}", failure_text(x));
  auto steps = step_texts(part(x, "steps"));
  return steps.empty() ? head : fmt::format("{}\n    {}", head, steps);
}

std::string as_it_is(const json& x) {
  return x.is_string() ? printable(x.get<std::string>()) : "";
}

std::string why_page(const session& s, const json& x) {
  auto page = report_page{s.out};
  page.line(s.out.paint(answer(x), style::bold));
  page.list("waits for", part(x, "waits"), style::busy, wait_text);
  page.list("if it were started now", checks_to_show(part(x, "start")), style::plain, check_text);
  page.list("last operations, failed ones first", part(x, "operations"), style::plain,
            operation_text);
  page.list("files about it", part(x, "findings"), style::bad,
            [](auto& y) { return fmt::format("{}: {}", text(y, "file"), text(y, "text")); });
  page.list("more in", part(x, "logs"), style::dim, as_it_is);
  return page.str();
}

} // namespace

exit_code run_why(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  auto found = ask_json(s, "qvmd.Why", *domain);
  if (!found)
    return report(s, explain(s, found.error(), *domain, ""));
  if (s.as == format::json)
    return print(s, dump(*found, 2) + "\n");
  if (s.as == format::table)
    return print(s, why_page(s, *found));
  return print(s, flat_table(*found).render(s.as, s.out));
}

} // namespace qubes::ctl
