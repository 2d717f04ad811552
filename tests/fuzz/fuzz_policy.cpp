// Bytes as files of the qrexec policy, with 0xff between them: a rule that was read is written in a
// form that is read as the same rule, no caller is allowed what an earlier file denies, and a file
// that cannot be read ends with a denial of all.
#include "model/policy/policy.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/model/sample_system.hpp"

#include <map>
#include <string>

namespace qubes::tests {

namespace {

using namespace model;
using kind = policy_party::kind;

constexpr auto names =
    std::array<std::string_view, 4>{"/policy.d/30-own.policy", "/policy.d/include/common",
                                    "/policy.d/90-last.policy", "/legacy/qubes.Filecopy+x"};

using files = std::map<std::string, std::string, std::less<>>;

policy_files in_memory(const files& all) {
  return {.read = [&](const std::string& path) -> outcome<std::string> {
            auto found = all.find(path);
            if (found == all.end())
              return fail(errc::general, "there is no such file");
            return found->second;
          },
          .list = [&](const std::string& path) -> outcome<std::optional<std::vector<std::string>>> {
            auto result = std::vector<std::string>{};
            for (auto& [name, text] : all)
              if (auto slash = name.rfind('/'); name.substr(0, slash) == path)
                result.push_back(name.substr(slash + 1));
            return result;
          }};
}

policy read(const files& all) {
  return read_policy(in_memory(all), {{"/policy.d"}, "/legacy"});
}

std::string text_of(const policy_party& x) {
  switch (x.who) {
  case kind::anyone: return "*";
  case kind::not_dom0: return "@anyvm";
  case kind::dom0: return "dom0";
  case kind::name: return x.text;
  case kind::tag: return "@tag:" + x.text;
  case kind::type: return "@type:" + x.text;
  case kind::gone: return "@default";
  case kind::disposable: return x.text.empty() ? "@dispvm" : "@dispvm:" + x.text;
  }
  return {};
}

std::string text_of(const policy_rule& x) {
  auto or_any = [](auto& text) { return text.empty() ? std::string{"*"} : text; };
  constexpr std::string_view actions[] = {"deny", "ask", "allow"};
  auto result =
      fmt::format("{} {} {} {} {}", or_any(x.service), or_any(x.argument), text_of(x.source),
                  text_of(x.target), actions[static_cast<std::size_t>(x.action)]);
  if (x.redirect)
    result += " target=" + text_of(*x.redirect);
  if (!x.autostart)
    result += " autostart=no";
  return result + '\n';
}

bool denies_all(const policy_rule& x) {
  return text_of(x) == "* * * * deny\n";
}

/// The verdicts for every pair of domains, and for targets that do not exist.
std::string allowed(const policy& all) {
  static const auto host = sample_system{};
  static const auto view = host.view();
  auto result = std::string{};
  for (auto service : {"admin.vm.List", "qubes.Filecopy"})
    for (auto& source : host.system.domains) {
      auto filter = policy_filter{all, view, service, "x", *source};
      for (auto& target : host.system.domains)
        result += filter.allows(target.get()) ? '1' : '0';
      result += filter.allows(nullptr) ? '1' : '0';
    }
  return result;
}

void check(const policy& all) {
  auto written = std::string{};
  for (auto& x : all.rules)
    written += text_of(x);
  auto again = read({{std::string{names[0]}, written}});
  auto rewritten = std::string{};
  for (auto& x : again.rules)
    rewritten += text_of(x);
  must(rewritten == written);
  must(allowed(again) == allowed(all));
  for (auto& x : all.findings) {
    must(is_one_line(x.where) && is_one_line(x.text));
    must(x.text.find("everything is denied") == x.text.npos || denies_all(all.rules.back()));
  }
}

void run(std::string_view input) {
  auto all = files{};
  for (auto name : names)
    all.emplace(name, take_until(input, '\xff'));
  check(read(all));
  all.emplace("/policy.d/00-first.policy", "* * * * deny\n");
  must(allowed(read(all)).find('1') == std::string::npos);
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  qubes::tests::run(qubes::tests::text_of(data, size));
  return 0;
}
