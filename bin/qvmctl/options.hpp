// The command line as data: options and commands are rows; parsing, help and the manual follow.
// CLI11 is not used here: it rewrites values such as "[a,b]", which are globs and property texts.
#pragma once

#include "bin/qvmctl/client.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace qubes::ctl {

/// What a command may be told besides its words. Combines with `|`.
enum option : std::uint64_t {
  opt_socket = 1ULL << 0,
  opt_help = 1ULL << 1,
  opt_version = 1ULL << 2,
  opt_format = 1ULL << 3,
  opt_all = 1ULL << 4,
  opt_exclude = 1ULL << 5,
  opt_wait = 1ULL << 6,
  opt_dry_run = 1ULL << 7,
  opt_force = 1ULL << 8,
  opt_cascade = 1ULL << 9,
  opt_columns = 1ULL << 10,
  opt_host = 1ULL << 11,
  opt_json = 1ULL << 12,
  opt_seconds = 1ULL << 13,
  opt_state = 1ULL << 14,
  opt_timeout = 1ULL << 15,
  opt_markdown = 1ULL << 16,
  opt_man = 1ULL << 17,
  opt_plain = 1ULL << 18,
  opt_diff = 1ULL << 19,
  opt_yes = 1ULL << 20,
  opt_class = 1ULL << 21,
  opt_template = 1ULL << 22,
  opt_label = 1ULL << 23,
  opt_pool = 1ULL << 24,
  opt_set = 1ULL << 25,
  opt_feature = 1ULL << 26,
  opt_tag = 1ULL << 27,
  opt_before = 1ULL << 28,
  opt_expire = 1ULL << 29,
  opt_comment = 1ULL << 30,
  opt_read_only = 1ULL << 31,
  opt_option = 1ULL << 32,
  opt_required = 1ULL << 33,
  opt_ask = 1ULL << 34,
  opt_user = 1ULL << 35,
  opt_sort = 1ULL << 36,
  opt_reverse = 1ULL << 37,
  opt_only = 1ULL << 38, ///< the filters of a listing
  opt_start = 1ULL << 39,
  opt_passphrase = 1ULL << 40,
  opt_rename = 1ULL << 41,
  opt_stand_in = 1ULL << 42, ///< the template of what has none here
  opt_backup = 1ULL << 43,   ///< what a profile says
  opt_profiles = 1ULL << 44,
  opt_picture = 1ULL << 45, ///< the format of a drawing
  opt_count = 1ULL << 46,
  opt_watch = 1ULL << 47,
  opt_via = 1ULL << 48,
};

/// Options that every command has.
inline constexpr auto everywhere = std::uint64_t{opt_socket | opt_via | opt_help | opt_version};

/// `--wait` or `--wait=SECONDS`.
struct patience {
  bool asked = false;
  std::optional<double> seconds;
};

/// Values of an option that may be repeated, each as it was written.
struct texts {
  std::vector<std::string> all;
};

/// The command line, understood. One member per option.
struct command_line {
  std::vector<std::string> words; ///< what follows the command's name
  std::string socket;
  std::string via;
  std::string format = "table";
  std::vector<std::string> columns;
  std::vector<std::string> exclude;
  patience wait;
  std::optional<double> seconds;
  std::optional<double> timeout;
  std::string state = "Running";
  std::string klass;
  std::string based_on;
  std::string label;
  texts pools;
  texts settings;
  texts features;
  std::vector<std::string> tags;
  std::vector<std::string> exclude_tags;
  std::string before;
  std::optional<std::string> expire;
  std::string comment;
  texts device_options;
  std::optional<std::string> user;
  std::string sort;
  std::vector<std::string> states;
  std::vector<std::string> only_classes;
  std::vector<std::string> only_labels;
  std::vector<std::string> only_templates;
  std::vector<std::string> only_netvms;
  texts only_tags;
  std::string passphrase_file;
  texts renames;
  std::string profiles;
  std::string backup_to;
  std::string backup_in;
  std::string backup_compression;
  std::string passphrase_vm;
  std::string save_as;
  std::string picture = "text";
  std::string count;
  bool watch = false;
  bool yes = false;
  bool read_only = false;
  bool required = false;
  bool ask = false;
  bool reverse = false;
  bool start = false;
  bool help = false;
  bool version = false;
  bool all = false;
  bool dry_run = false;
  bool force = false;
  bool cascade = false;
  bool host = false;
  bool json = false;
  bool markdown = false;
  bool man = false;
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
               std::optional<std::string> command_line::*, std::vector<std::string> command_line::*,
               texts command_line::*, std::optional<double> command_line::*,
               patience command_line::*>
      into;
};

std::span<const option_row> options() noexcept;

struct session;

struct command {
  std::string_view section;   ///< heading in the help
  std::string_view name;      ///< one or two words
  std::string_view arguments; ///< "DOMAIN...", "DOMAIN [PROPERTY]"; tells how many words it takes
  std::uint64_t options;
  std::string_view help;
  exit_code (*run)(session&);
  std::string_view detail; ///< for the manual and `qvmctl COMMAND --help`
};

struct parsed_line {
  const command* what = nullptr; ///< null: no command was named
  command_line line;
};

/// From 0 to 1e8; the error says whose text it is, such as "--timeout".
expected<double> parse_seconds(std::string_view whose, std::string_view text);

/// Understands `argv` without the program's name. Refusals are of the kind `usage`.
expected<parsed_line> parse(std::span<const std::string> argv, std::span<const command> table);

/// A command line that is still being typed, without the word it goes on with.
struct half_line {
  const command* what = nullptr;  ///< null: not named yet
  std::vector<std::string> words; ///< what follows the command's name; all while it is not named
  std::uint64_t allowed = everywhere;
  std::vector<std::pair<const option_row*, std::string>> given{}; ///< with their values
  const option_row* awaits = nullptr;                             ///< whose value comes next
  bool words_only = false; ///< no option can follow: after --, or of the program to run
};

half_line halfway(std::span<const std::string> typed, std::span<const command> table);

bool value_needed(const option_row& x);
/// Of an option with one value, a second would replace the first without a word.
bool may_be_repeated(const option_row& x);
/// "qvmctl tag add DOMAIN TAG..."
std::string synopsis(const command& x);
/// Each once, in the table's order.
std::vector<std::string> first_words(std::span<const command> table);
/// "ls" and "get" of the group "feature".
std::vector<std::string> second_words(std::string_view group, std::span<const command> table);
const command* find_command(std::string_view name, std::span<const command> table);

} // namespace qubes::ctl
