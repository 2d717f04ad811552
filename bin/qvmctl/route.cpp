#include "bin/qvmctl/route.hpp"

#include "bin/qvmctl/options.hpp"

#include <unistd.h>

#include <cstdlib>

namespace qubes::ctl {

namespace {

constexpr auto default_socket = "/var/run/qubesd.sock";
constexpr auto default_program = "/usr/bin/qrexec-client-vm";

std::string named_by(const char* variable) {
  auto text = std::getenv(variable);
  return text ? text : "";
}

} // namespace

route internal_socket(route way) {
  auto& socket = way.socket;
  if (auto at = socket.rfind("qubesd.sock"); at != std::string::npos)
    socket.replace(at, std::string::npos, "qubesd.internal.sock");
  return way;
}

route choose_route(const command_line& line) {
  auto socket = line.socket.empty() ? named_by("QVMCTL_SOCKET") : line.socket;
  auto program = named_by("QVMCTL_QREXEC_CLIENT_VM");
  if (program.empty())
    program = default_program;
  auto there = [](const std::string& path, int how) { return ::access(path.c_str(), how) == 0; };
  auto alone = socket.empty() && !there(default_socket, F_OK) && there(program, X_OK);
  if (socket.empty())
    socket = default_socket;
  if (line.via == "qrexec" || (line.via.empty() && alone))
    return {std::move(socket), std::move(program)};
  return {std::move(socket)};
}

} // namespace qubes::ctl
