// The command line as data: options and commands are rows; parsing, help and the manual follow.
// CLI11 is not used here: it rewrites values such as "[a,b]", which are globs and property texts.
#pragma once

#include "bin/client.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace qubes::ctl {

/// What a command may be told besides its words. Combines with `|`.
enum option : std::uint32_t {
  opt_socket = 1U << 0,
  opt_help = 1U << 1,
  opt_version = 1U << 2,
  opt_format = 1U << 3,
  opt_all = 1U << 4,
  opt_exclude = 1U << 5,
  opt_wait = 1U << 6,
  opt_dry_run = 1U << 7,
  opt_force = 1U << 8,
  opt_cascade = 1U << 9,
  opt_columns = 1U << 10,
  opt_host = 1U << 11,
  opt_json = 1U << 12,
  opt_seconds = 1U << 13,
  opt_state = 1U << 14,
  opt_timeout = 1U << 15,
  opt_markdown = 1U << 16,
  opt_words = 1U << 17,
  opt_plain = 1U << 18,
  opt_diff = 1U << 19,
};

/// `--wait` or `--wait=SECONDS`.
struct patience {
  bool asked = false;
  std::optional<double> seconds;
};

/// The command line, understood. One member per option.
struct command_line {
  std::vector<std::string> words; ///< what follows the command's name
  std::string socket;
  std::string format = "table";
  std::vector<std::string> columns;
  std::vector<std::string> exclude;
  patience wait;
  std::optional<double> seconds;
  std::optional<double> timeout;
  std::string state = "Running";
  bool help = false;
  bool version = false;
  bool all = false;
  bool dry_run = false;
  bool force = false;
  bool cascade = false;
  bool host = false;
  bool json = false;
  bool markdown = false;
  bool list_words = false;
  bool plain = false;
  bool diff = false;
};

struct option_row {
  option id;
  char letter;            ///< '\0' for none
  std::string_view name;  ///< with its dashes
  std::string_view value; ///< "" for a flag; "[=X]" when the value may be left out
  std::string_view help;  ///< "" hides it from the help
  std::variant<bool command_line::*, std::string command_line::*,
               std::vector<std::string> command_line::*, std::optional<double> command_line::*,
               patience command_line::*>
      into;
};

std::span<const option_row> options() noexcept;

struct session;

struct command {
  std::string_view section;   ///< heading in the help
  std::string_view name;      ///< one or two words
  std::string_view arguments; ///< "DOMAIN...", "DOMAIN [PROPERTY]"; tells how many words it takes
  std::uint32_t options;
  std::string_view help;
  exit_code (*run)(session&);
  std::string_view detail; ///< for the manual and `qvmctl COMMAND --help`
};

struct parsed_line {
  const command* what = nullptr; ///< null: no command was named
  command_line line;
};

/// Understands `argv` without the program's name. Refusals are of the kind `usage`.
expected<parsed_line> parse(std::span<const std::string> argv, std::span<const command> table);

std::string short_usage(std::span<const command> table);
std::string overall_help(std::span<const command> table);
std::string help_of(const command& x);
/// Help of "feature", which stands for several rows.
std::string help_of_group(std::string_view group, std::span<const command> table);
std::string markdown(std::span<const command> table);
/// Commands, or the options of one: for shell completion.
std::string completion_words(std::span<const std::string> words, std::span<const command> table);

} // namespace qubes::ctl
