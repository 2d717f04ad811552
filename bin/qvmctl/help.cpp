#include "bin/qvmctl/help.hpp"

#include "bin/qvmctl/output.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace qubes::ctl {

namespace {

constexpr std::array exit_code_table{
    exit_code_row{exit_code::done, "done"},
    exit_code_row{exit_code::refused, "refused or failed"},
    exit_code_row{exit_code::usage, "the command line makes no sense"},
    exit_code_row{exit_code::no_daemon, "no daemon"},
    exit_code_row{exit_code::partly, "done for some, not all"},
    exit_code_row{exit_code::timed_out, "timed out"},
};

// clang-format off
const std::array topic_table{
  topic{"domains", "How domains are named",
        "DOMAIN is the name of a domain, or uuid: and its uuid. For settings, features, services, tags, notes that are set, firewalls and devices it may as well be several names with commas between, or a glob: 'sys-*', 'disp*', '[pw]*'. Globs never mean dom0. DOMAIN... takes any number of all these. Everywhere else it is one name: a volume, a rename, a clone, a program to run and a console are of one domain, and several are refused.\n\n"
        "--all is every domain but dom0 that the command fits, and --exclude leaves some out. @host in the place of a domain is the host: its properties are the global ones.\n\n"
        "'none', in any case, is no domain: as the value of a property, as a netvm or template. No domain can be called 'none'; where one is called 'None', that word is refused."},
  topic{"values", "How values are written",
        "Sizes of volumes are in bytes or have a unit: 400M and 10G count in thousands, 400Mi and 10Gi in 1024s. Memory is in MiB; there M and Mi, G and Gi are the same.\n\n"
        "True and False are also yes and no, on and off, 1 and 0. Times are in seconds, such as 30 or 2.5. Names of properties may have '-' for '_'. Put -- before a word that starts with a dash."},
  topic{"output", "What is printed, and how",
        "-f csv and -f json are for programs. Tables are for people: on a terminal they have colours, which NO_COLOR switches off, and are folded to its width. A text that has blanks goes on in the next line, another one ends in an ellipsis. Nothing is folded or cut in a pipe. What has no value is '-' in a table, empty in csv and null in json; 'get' shows a property that is set to no domain as 'none', which 'set' takes.\n\n"
        "Commands that show something have -f, and those that start and stop domains; other changes print nothing when they are done. Messages about what went wrong go to standard error. --dry-run prints what would be done and changes nothing; it is refused what the command would be refused, as far as that can be told before, and ends with the same exit code.\n\n"
        "What destroys data asks before it does, unless there is --yes; where nobody can be asked it is refused: remove, rename, volume revert, volume import, pool remove. Rules, labels and a guest's life are no data: firewall reset, label del and kill do not ask."},
  topic{"environment", "Variables that are read",
        "QVMCTL_SOCKET: socket of the daemon, where --socket does not name it. QVMCTL_PROFILES: folder of backup profiles. QVMCTL_COMPLETION_SECONDS: how long a key that completes waits for the daemon (default: 1). QVMCTL_QREXEC_CLIENT, QVMCTL_QREXEC_CLIENT_VM, QVMCTL_SCRYPT and QVMCTL_SOCAT: programs in the place of qrexec-client, qrexec-client-vm, scrypt and socat. NO_COLOR, COLORTERM, TERM: colours."},
  topic{"management", "From another domain than dom0",
        "Where there is no socket of the daemon, qvmctl calls each method of the Admin API as a service, through qrexec-client-vm. --via says which way is taken.\n\n"
        "In dom0 qrexec's policy has to allow what is called: the methods of admin.* as for the stock tools, and the daemon's own. These are qvmd.Overview, for whatever lists domains or names several (admin.vm.List stands in for it, and tells less), qvmd.Plan for --dry-run, qvmd.Why, qvmd.Xml and qvmd.Methods. Each of these needs a link to /var/run/qubesd.sock in dom0's /etc/qubes-rpc as well; 'cmake --install' makes them, and by hand it is 'ln -s /var/run/qubesd.sock /etc/qubes-rpc/qvmd.Overview', and so on. A domain is shown those that its policy for admin.vm.List allows. qvmd.Status is for dom0 only, and so are 'status' and what is under way in 'top'; volumes are exported in dom0 only.\n\n"
        "'run' and 'disposable run' call qubes.VMExec, 'console' calls admin.vm.Console, and data of volumes goes through admin.vm.volume.ImportWithSize. Files of dom0, such as profiles of backups, are for dom0."},
  topic{"completion", "Completion in bash, zsh and fish",
        "Commands, options, names of domains, properties and their values, devices, pools and more are completed by asking qvmctl, which asks the daemon. It is installed where each shell looks for it; by hand: source qvmctl.bash in bash, put _qvmctl into a folder of fpath in zsh, qvmctl.fish into ~/.config/fish/completions."},
};
// clang-format on

constexpr auto column_of_text = std::size_t{80};

std::string paragraphs(std::string_view text) {
  auto result = std::string{};
  for (auto& line : folded(text, column_of_text))
    result += line + "\n";
  return result;
}

std::string option_text(const option_row& x) {
  return fmt::format("{}{}{}{}", x.letter ? fmt::format("-{}, ", x.letter) : "    ", x.name,
                     value_needed(x) ? " " : "", x.value);
}

std::string options_help(std::uint64_t set) {
  auto result = std::string{};
  for (auto& x : options())
    if ((set & x.id) && !x.help.empty())
      result += fmt::format("  {:<24} {}\n", option_text(x), x.help);
  return result;
}

std::string flags_markdown(std::uint64_t set) {
  auto result = std::string{};
  for (auto& x : options())
    if ((set & x.id) && !x.help.empty()) {
      auto letter = x.letter ? fmt::format("`-{}`, ", x.letter) : std::string{};
      result += fmt::format("- {}`{}{}{}`: {}\n", letter, x.name, value_needed(x) ? " " : "",
                            x.value, x.help);
    }
  return result;
}

/// Words in quotes as Markdown has them: a glob would be emphasis.
std::string with_backticks(std::string text) {
  for (auto at = text.find('\''); at != std::string::npos; at = text.find('\'', at + 1)) {
    auto end = text.find_first_of("' ", at + 1);
    if (end == std::string::npos || text[end] != '\'' || (at > 0 && text[at - 1] > ' '))
      continue;
    text[at] = text[end] = '`';
  }
  return text;
}

/// A line of a list: what is too long for its column has the rest below.
std::string line_of(std::string_view what, std::string_view help, std::size_t column) {
  auto wide = what.size() > column;
  return fmt::format("  {:<{}}{}{}\n", what, wide ? 0 : column + 1,
                     wide ? fmt::format("\n{}", std::string(column + 3, ' ')) : "", help);
}

std::string line_of(const command& x) {
  return line_of(fmt::format("{} {}", x.name, x.arguments), x.help, 34);
}

std::string exit_code_text() {
  auto result = std::string{};
  for (auto& x : exit_code_table)
    result +=
        fmt::format("{}{}: {}.", result.empty() ? "" : "\n\n", static_cast<int>(x.code), x.meaning);
  return result;
}

} // namespace

std::span<const exit_code_row> exit_codes() noexcept {
  return exit_code_table;
}

std::string section_name(std::string_view section) {
  return model::lower_case(section);
}

std::vector<std::string_view> sections(std::span<const command> table) {
  auto result = std::vector<std::string_view>{};
  for (auto& x : table)
    if (result.empty() || result.back() != x.section)
      result.push_back(x.section);
  return result;
}

std::string short_usage(std::span<const command> table) {
  return fmt::format("usage: qvmctl COMMAND [ARGUMENTS] [OPTIONS]\ncommands: {}\n"
                     "'qvmctl help' explains them, 'qvmctl COMMAND --help' one.\n",
                     fmt::join(first_words(table), " "));
}

std::string overall_help(std::span<const command> table) {
  auto result = std::string{"qvmctl - see and steer the domains of this host\n\n"
                            "usage: qvmctl COMMAND [ARGUMENTS] [OPTIONS]\n"};
  auto section = std::string_view{};
  for (auto& x : table) {
    if (x.section != section)
      result += fmt::format("\n{}\n", section = x.section);
    result += line_of(x);
  }
  result += "\nEverywhere\n" + options_help(everywhere);
  result += "\nDOMAIN... takes names and globs: 'sys-*', 'disp*', '[pw]*', also with "
            "commas.\n\nExit codes\n";
  for (auto& x : exit_code_table)
    result += fmt::format("  {}  {}\n", static_cast<int>(x.code), x.meaning);
  result += "\nTopics, for 'qvmctl help TOPIC'\n";
  for (auto& x : topics(table))
    result += line_of(x.name, x.title, 34);
  return result;
}

std::string help_of(const command& x) {
  auto result = fmt::format("{}\n\nusage: {}\n", x.help, synopsis(x));
  if (!x.detail.empty())
    result += "\n" + paragraphs(x.detail);
  return result + "\noptions\n" + options_help(x.options | everywhere);
}

std::string help_of_group(std::string_view group, std::span<const command> table) {
  auto result = std::string{};
  for (auto& x : table)
    if (x.name.starts_with(group) && x.name.size() > group.size() && x.name[group.size()] == ' ')
      result += line_of(synopsis(x), x.help, 42);
  return result;
}

std::string markdown(std::span<const command> table) {
  auto result = std::string{
      "# qvmctl\n\nSees and steers the domains of this host through the daemon's "
      "socket, or through qrexec.\n\n    qvmctl COMMAND [ARGUMENTS] [OPTIONS]\n\n"
      "`DOMAIN...` takes names and globs (`sys-*`, `disp*`, `[pw]*`), also with commas. "
      "Colours appear on a terminal only;\n`NO_COLOR` switches them off. Who knows qvm-*, virsh or "
      "incus finds their commands and options in\n[another page](qvmctl-from-other-tools.md).\n\n"
      "Options every command has:\n\n"};
  result += flags_markdown(everywhere);
  result += "\nExit codes:\n\n| code | meaning |\n|---|---|\n";
  for (auto& x : exit_code_table)
    result += fmt::format("| {} | {} |\n", static_cast<int>(x.code), x.meaning);
  for (auto& x : topic_table)
    result += fmt::format("\n## {}\n\n{}\n", x.title, with_backticks(x.text));
  auto section = std::string_view{};
  for (auto& x : table) {
    if (x.section != section)
      result += fmt::format("\n## {}\n", section = x.section);
    result += fmt::format("\n### {}\n\n    {}\n\n{}.", x.name, synopsis(x), x.help);
    result += x.detail.empty() ? "\n" : fmt::format(" {}\n", x.detail);
    if (auto flags = flags_markdown(x.options); !flags.empty())
      result += "\n" + flags;
  }
  return result;
}

std::vector<topic> topics(std::span<const command> table) {
  auto result = std::vector<topic>(topic_table.begin(), topic_table.end());
  result.push_back({std::string{topic_of_exit_codes}, "Exit codes", exit_code_text()});
  for (auto x : sections(table))
    result.push_back({section_name(x), fmt::format("The commands under \"{}\"", x), ""});
  return result;
}

std::optional<std::string> help_of_topic(std::string_view name, std::span<const command> table) {
  auto all = topics(table);
  auto found = std::ranges::find(all, model::lower_case(name), &topic::name);
  if (found == all.end())
    return std::nullopt;
  if (!found->text.empty())
    return fmt::format("{}\n\n{}", found->title, paragraphs(found->text));
  auto result = found->title + "\n\n";
  for (auto& x : table)
    if (section_name(x.section) == found->name)
      result += line_of(x);
  return result + "\n'qvmctl help COMMAND' explains one.\n";
}

} // namespace qubes::ctl
