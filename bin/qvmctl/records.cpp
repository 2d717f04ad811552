// notes, labels and what is known of updates.
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/name.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace qubes::ctl {

exit_code run_notes_show(session& s) {
  auto domain = domain_word(s);
  auto text = domain ? s.daemon.ask({"admin.vm.notes.Get", "", *domain, ""})
                     : tl::unexpected{domain.error()};
  if (!text)
    return report(s, domain ? explain(s, text.error(), *domain, "") : text.error());
  if (s.out.terminal) {
    auto lines = std::string{};
    for (auto& x : lines_of(*text))
      lines += printable(x) + "\n";
    return print(s, lines);
  }
  return print(s, text->empty() || text->back() == '\n' ? *text : *text + "\n");
}

exit_code run_notes_set(session& s) {
  auto text = s.line.words[1] == "-" ? read_text("-") : expected<std::string>{s.line.words[1]};
  auto domains = text ? domain_words(s) : tl::unexpected{text.error()};
  if (!domains)
    return report(s, domains.error());
  auto changes = std::vector<change>{};
  for (auto& x : *domains) {
    auto now = s.line.dry_run ? s.daemon.ask({"admin.vm.notes.Get", "", x, ""}) : std::string{};
    if (!now)
      return report(s, explain(s, now.error(), x, ""));
    changes.push_back({{"admin.vm.notes.Set", "", x, *text},
                       "",
                       *now == *text ? fmt::format("{}: notes: nothing would change", x)
                                     : fmt::format("{}: notes: {} bytes, which were {}", x,
                                                   text->size(), now->size())});
  }
  return make_changes(s, changes);
}

exit_code run_label_ls(session& s) {
  auto names = s.daemon.ask({.method = "admin.label.List"});
  if (!names)
    return report(s, names.error());
  auto asked = std::vector<request>{};
  for (auto& x : lines_of(*names)) {
    asked.push_back({"admin.label.Get", x, "dom0", ""});
    asked.push_back({"admin.label.Index", x, "dom0", ""});
  }
  auto answers = ask_all(s, asked);
  auto result = output_table{{{"label"}, {"color"}, {"index", true}}};
  for (auto i = std::size_t{0}; i + 1 < answers.size(); i += 2) {
    if (!answers[i] || !answers[i + 1])
      return report(s, answers[i] ? answers[i + 1].error() : answers[i].error());
    result.add({{asked[i].argument, style::plain, *answers[i]},
                {*answers[i]},
                {std::strtoll(answers[i + 1]->c_str(), nullptr, 10)}});
  }
  return print(s, result.render(s.as, s.out));
}

exit_code run_label_add(session& s) {
  if (auto good = model::check_label_name(s.line.words[0], true); !good)
    return report(s, bad_word(good.error()).value());
  auto color = s.line.words[1];
  if (color.starts_with('#'))
    color = "0x" + color.substr(1);
  auto number = 0U;
  auto digits = color.starts_with("0x") ? color.substr(2) : "";
  auto [end, bad] = std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  if (digits.size() != 6 || bad != std::errc{} || end != digits.data() + digits.size())
    return report(s, usage_failure(fmt::format("'{}' is no colour", s.line.words[1]),
                                   "for example 0xff8800 or '#ff8800'")
                         .value());
  return make_changes(s, {{{"admin.label.Create", s.line.words[0], "dom0", color}}});
}

exit_code run_label_del(session& s) {
  return make_changes(s, {{{"admin.label.Remove", s.line.words[0], "dom0", ""}}});
}

exit_code run_update_status(session& s) {
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return report(s, all.error());
  auto chosen = s.line.words.empty() ? all->all_but({}) : all->choose(s.line.words);
  if (!chosen)
    return report(s, chosen.error());
  if (s.line.words.empty())
    std::erase_if(*chosen,
                  [](auto x) { return x->klass != "TemplateVM" && x->klass != "StandaloneVM"; });
  constexpr std::string_view features[] = {"updates-available", "last-updates-check", "last-update",
                                           "os-eol"};
  constexpr auto width = std::size(features);
  auto asked = std::vector<request>{};
  for (auto x : *chosen)
    for (auto feature : features)
      asked.push_back({"admin.vm.feature.Get", std::string{feature}, x->name, ""});
  auto answers = ask_all(s, asked);
  auto result = output_table{
      {{"name"}, {"class"}, {"updates"}, {"last_check"}, {"last_update"}, {"end_of_life"}}};
  for (auto i = std::size_t{0}; i < chosen->size(); ++i) {
    auto x = (*chosen)[i];
    auto value = [&](std::size_t feature) {
      auto& answer = answers[i * width + feature];
      return answer && !answer->empty() ? nlohmann::json(*answer) : nlohmann::json{};
    };
    auto known = answers[i * width].has_value();
    auto waiting = !value(0).is_null();
    result.add({{x->name, style::plain, x->color},
                {x->klass},
                {known ? (waiting ? "available" : "none") : "unknown",
                 waiting ? style::busy : style::plain},
                {value(1)},
                {value(2)},
                {value(3)}});
  }
  return print(s, result.render(s.as, s.out));
}

} // namespace qubes::ctl
