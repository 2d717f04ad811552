// The table of commands and what each one is given to work with.
#pragma once

#include "bin/qvmctl/client.hpp"
#include "bin/qvmctl/options.hpp"
#include "bin/qvmctl/output.hpp"

#include <span>
#include <string>

namespace qubes::ctl {

/// One run of qvmctl.
struct session {
  command_line line;
  client daemon;
  screen out;
  format as = format::table;
  std::string_view command; ///< the command's name, for messages
};

/// All commands, in the order of the help.
std::span<const command> commands() noexcept;

/// Understands the command line and runs it.
exit_code run(std::span<const std::string> argv);

/// Prints the refusal and tells the exit code.
exit_code report(const session& s, const failure& why);

/// Prints a result; a full disk is a failure.
exit_code print(const session& s, std::string_view text);

} // namespace qubes::ctl
