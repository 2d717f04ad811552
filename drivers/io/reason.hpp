// Why the system refused a call.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>

namespace qubes::drivers {

/// "No such file or directory" for ENOENT; safe in any thread.
inline std::string reason(int code = errno) {
  return std::generic_category().message(code);
}

} // namespace qubes::drivers
