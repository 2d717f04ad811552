#include "drivers/io/unix_socket.hpp"

#include "drivers/io/reason.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>

namespace qubes::drivers {

using model::errc;
using model::fail;

model::outcome<unique_fd> connect_to(const std::string& path, std::chrono::milliseconds limit) {
  auto address = sockaddr_un{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(errc::general, "the path is too long for a socket");
  path.copy(address.sun_path, path.size());

  auto result = unique_fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!result)
    return fail(errc::general, reason());
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
  auto patience = timeval{};
  patience.tv_sec = seconds.count();
  patience.tv_usec = std::chrono::microseconds{limit - seconds}.count();
  ::setsockopt(result.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  while (::connect(result.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    if (errno != EINTR)
      return errno == EAGAIN ? fail(errc::timed_out, "no answer in time")
                             : fail(errc::general, reason());
  return result;
}

} // namespace qubes::drivers
