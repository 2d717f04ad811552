// How qvmctl comes to the daemon: by its socket in dom0, by qrexec from any other domain.
#pragma once

#include <string>
#include <utility>

namespace qubes::ctl {

struct route {
  std::string socket;
  std::string qrexec{}; ///< the program that calls a service of another domain; "": the socket

  bool by_qrexec() const noexcept { return !qrexec.empty(); }
};

/// The socket for what only dom0 may do, beside that of the Admin API.
route internal_socket(route way);

struct command_line;

/// What the command line says, else the environment, else what is there: qrexec where there is
/// no socket and its program is.
route choose_route(const command_line& line);

} // namespace qubes::ctl
