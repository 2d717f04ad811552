// qvmctl(1), and a page for each section of the table of commands; every command is found by name.
#include "bin/manual/roff.hpp"
#include "bin/qvmctl/help.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::ctl {

namespace {

constexpr auto section_of_commands = std::string_view{"1"};

void add_options(manual::page& to, std::uint64_t set) {
  for (auto& x : options())
    if ((set & x.id) && !x.help.empty())
      to.entry(fmt::format("{}{}{}{}", x.letter ? fmt::format("-{}, ", x.letter) : "", x.name,
                           value_needed(x) ? " " : "", x.value),
               fmt::format("{}.", x.help));
}

std::string page_of_section(std::string_view section) {
  return "qvmctl-" + section_name(section);
}

void add_more_pages(manual::page& to, std::span<const command> table, std::string_view but) {
  auto names = std::vector<std::string>{};
  if (!but.empty())
    names.emplace_back("qvmctl(1)");
  for (auto x : sections(table))
    if (x != but)
      names.push_back(page_of_section(x) + "(1)");
  to.heading("See also");
  to.paragraph(fmt::format("{}, qvmd(8)", fmt::join(names, ", ")));
}

/// Of a command's first word.
std::string_view find_section(std::string_view word, std::span<const command> table) {
  auto is_of_word = [&](auto& x) { return x.name.substr(0, x.name.find(' ')) == word; };
  return std::ranges::find_if(table, is_of_word)->section;
}

std::string overview_page(std::span<const command> table) {
  auto result =
      manual::page{"qvmctl", section_of_commands, "see and steer the domains of this host"};
  result.heading("Synopsis");
  result.literal("qvmctl COMMAND [ARGUMENTS] [OPTIONS]");
  result.heading("Description");
  result.paragraph("All it does goes through the socket of qvmd(8), or through qrexec, as messages "
                   "of the Admin API.");
  for (auto section : sections(table)) {
    result.subheading(fmt::format("{}: {}(1)", section, page_of_section(section)));
    for (auto& x : table)
      if (x.section == section)
        result.entry(fmt::format("{} {}", x.name, x.arguments), fmt::format("{}.", x.help));
  }
  result.heading("Options of every command");
  add_options(result, everywhere);
  for (auto& x : topics(table)) {
    if (x.text.empty() || x.name == topic_of_exit_codes)
      continue;
    result.heading(x.title);
    for (auto rest = std::string_view{x.text}; !rest.empty();) {
      auto end = std::min(rest.find("\n\n"), rest.size());
      result.paragraph(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 2, rest.size()));
    }
  }
  result.heading("Exit status");
  for (auto& x : exit_codes())
    result.entry(fmt::format("{}", static_cast<int>(x.code)), fmt::format("{}.", x.meaning));
  add_more_pages(result, table, "");
  return result.str();
}

std::string section_page(std::string_view section, std::span<const command> table) {
  auto result = manual::page{page_of_section(section), section_of_commands,
                             fmt::format("commands of qvmctl: {}", section_name(section))};
  result.heading("Synopsis");
  for (auto& x : table)
    if (x.section == section)
      result.literal(fmt::format("{}{}", synopsis(x), x.options ? " [OPTIONS]" : ""));
  result.heading("Description");
  for (auto& x : table) {
    if (x.section != section)
      continue;
    result.subheading(synopsis(x));
    result.paragraph(fmt::format("{}.{}{}", x.help, x.detail.empty() ? "" : " ", x.detail));
    add_options(result, x.options);
  }
  add_more_pages(result, table, section);
  return result.str();
}

} // namespace

std::string manual_pages(std::span<const command> table) {
  auto result = std::string{"qvmctl\n"};
  for (auto x : sections(table))
    result += page_of_section(x) + "\n";
  for (auto& word : first_words(table)) {
    auto section = find_section(word, table);
    if (word != section_name(section))
      result += fmt::format("qvmctl-{} {}\n", word, page_of_section(section));
  }
  return result;
}

std::optional<std::string> manual_page(std::string_view name, std::span<const command> table) {
  if (name == "qvmctl")
    return overview_page(table);
  for (auto x : sections(table))
    if (name == page_of_section(x))
      return section_page(x, table);
  for (auto& word : first_words(table))
    if (name == "qvmctl-" + word)
      return manual::alias_of(page_of_section(find_section(word, table)), section_of_commands);
  return std::nullopt;
}

} // namespace qubes::ctl
