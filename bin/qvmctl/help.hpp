// What qvmctl says about itself, all from the tables: help, the manual as Markdown, manual pages.
#pragma once

#include "bin/qvmctl/options.hpp"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::ctl {

std::string short_usage(std::span<const command> table);
std::string overall_help(std::span<const command> table);
std::string help_of(const command& x);
/// Help of "feature", which stands for several rows.
std::string help_of_group(std::string_view group, std::span<const command> table);
std::string markdown(std::span<const command> table);

/// What can be asked for beside commands: something about all of them.
struct topic {
  std::string name;
  std::string title;
  std::string text; ///< paragraphs with a line between; "": a section of the table of commands
};

/// Which the manual tells in its own way.
inline constexpr auto topic_of_exit_codes = std::string_view{"exit"};

/// Topics of their own, then the sections.
std::vector<topic> topics(std::span<const command> table);

/// Nothing where there is no such topic.
std::optional<std::string> help_of_topic(std::string_view name, std::span<const command> table);

struct exit_code_row {
  exit_code code;
  std::string_view meaning;
};

std::span<const exit_code_row> exit_codes() noexcept;

/// "Running" as in `qvmctl help running` and qvmctl-running(1).
std::string section_name(std::string_view section);

/// Each once, in the table's order.
std::vector<std::string_view> sections(std::span<const command> table);

/// Each manual page with a line: its name, and the page it shows when it has no text of its own.
std::string manual_pages(std::span<const command> table);

/// One manual page, for man(1). Nothing where there is no such page.
std::optional<std::string> manual_page(std::string_view name, std::span<const command> table);

} // namespace qubes::ctl
